//! Real pods on real kubelets, with the images and manifests that the project ships.
//!
//! `make test-cluster` runs these; they need root and, the first time, some minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod chart;
mod database;
mod feed;
mod nics;
mod operated;
mod scene;
mod ssh;
mod system;

use std::io::Write as _;
use std::time::Instant;

use multinic_testbed::cluster::Cluster;
use multinic_testbed::kubernetes;
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::node::NetNs;

use feed::Feed;
use nics::Wanted;
use scene::{NAMESPACE, Scene, Source, Without, kill_agent};
use serde_json::json;
use ssh::Ssh;
use system::{Cloud, Steps};

/// What happens to pods and nodes while NICs come and go, whoever says which NICs there are to be. One NIC of each node is
/// left.
async fn nics_outlive_pods_nodes_and_versions(scene: &mut Scene, feed: &mut Feed) -> (Wanted, Wanted) {
    // NICs are plugged while the agents run.
    let first = feed.attach(scene, 0).await;
    scene.plug(0, &first, "ens4");
    scene.wait_configured(0, "multinic0", &first).await;
    let second = feed.attach(scene, 1).await;
    scene.plug(1, &second, "ens4");
    scene.wait_configured(1, "multinic0", &second).await;
    scene.wait_reported(0, &[&first]).await;
    scene.wait_reported(1, &[&second]).await;
    let on_third = feed.attach(scene, 2).await;
    scene.plug(2, &on_third, "ens4");
    scene.wait_configured(2, "multinic0", &on_third).await;
    scene.wait_reported(2, &[&on_third]).await;
    scene.assert_reaches(0, &second);
    scene.assert_reaches(1, &on_third);
    scene.assert_reaches(2, &first);

    // From here on these never lose an address, but for the moment in which their node is off.
    let mut watches = [scene.watch(0, &[&first]), scene.watch(1, &[&second]), scene.watch(2, &[&on_third])];
    for how in [scene::Kill::Gracefully, scene::Kill::AtOnce, scene::Kill::Process] {
        kill_agent(scene, 0, how).await;
        scene.wait_agents().await;
        watches[0].assert_kept();
    }
    // Another arrives while the pod is away.
    kill_agent(scene, 1, scene::Kill::AtOnce).await;
    let third = feed.attach(scene, 1).await;
    scene.plug(1, &third, "ens5");
    scene.wait_configured(1, "multinic1", &third).await;

    scene.deployed.agent_tag = "2";
    scene.deploy().await;
    scene.wait_reported(0, &[&first]).await;
    scene.wait_reported(1, &[&second, &third]).await;
    watches.iter_mut().for_each(nics::Watch::assert_kept);

    // The node's own network manager has them up before any pod runs; the pod then takes nothing away.
    scene.cluster.reboot(1).unwrap();
    scene.wait_configured(1, "multinic0", &second).await;
    scene.wait_configured(1, "multinic1", &third).await;
    let mut rebooted = scene.watch(1, &[&second, &third]);
    scene.cluster.start_kubelet(1).unwrap();
    scene.wait_agents().await;
    scene.cluster.reset(0).unwrap();
    scene.wait_configured(0, "multinic0", &first).await;
    scene.cluster.start_kubelet(0).unwrap();
    scene.cluster.reboot(2).unwrap();
    scene.wait_configured(2, "multinic0", &on_third).await;
    scene.cluster.start_kubelet(2).unwrap();
    scene.wait_agents().await;
    scene.wait_reported(2, &[&on_third]).await;
    scene.wait_reported(0, &[&first]).await;
    scene.wait_reported(1, &[&second, &third]).await;
    rebooted.assert_kept();

    // And what is taken away goes, alone.
    let mut kept = scene.watch(1, &[&second]);
    feed.detach(scene, 1, &third).await;
    scene.wait_released(1, &third).await;
    scene.wait_reported(1, &[&second]).await;
    kept.assert_kept();
    (first, second)
}

/// What the documentation says of a pod that lacks one of its rights, on every kind of node.
async fn pods_that_lack_a_right_say_so(scene: &mut Scene, feed: &mut Feed, first: &[Wanted]) {
    scene.deployed.without = Some(Without::NetAdmin);
    scene.deploy().await;
    let (second, _) = feed.one_more_for_each(scene, "ens5").await;
    for (node, nic) in second.iter().enumerate() {
        scene.wait_status(node, "Operation not permitted").await;
        assert!(!nic.is_addressed(scene.cluster.guest(node).unwrap()), "{}", scene::node_name(node));
    }

    // They do without this one, and without what that is for.
    scene.deployed.without = Some(Without::Sysctls);
    scene.deploy().await;
    for (node, nic) in second.iter().enumerate() {
        let guest = scene.cluster.guest(node).unwrap();
        scene.until("an address", async || (!nic.is_addressed(guest)).then(|| "none".to_owned())).await;
        // NetworkManager does it itself.
        if !scene.nodes[node].network.has_network_manager() {
            assert_ne!(nics::accept_ra(guest, "multinic1"), "0");
            scene.wait_logged(node, "cannot make the link ignore router advertisements", 0).await;
        }
    }

    // Nothing is changed that nobody could undo.
    scene.deployed.without = Some(Without::Run);
    scene.deploy().await;
    let (third, _) = feed.one_more_for_each(scene, "ens6").await;
    for (node, nic) in third.iter().enumerate() {
        scene.wait_status(node, "ALLOW_UNARMED").await;
        assert!(!nic.is_addressed(scene.cluster.guest(node).unwrap()), "{}", scene::node_name(node));
    }
    scene.deployed.without = None;
    scene.deploy().await;
    for (node, nic) in third.iter().enumerate() {
        scene.wait_configured(node, "multinic1", &second[node]).await;
        scene.wait_configured(node, "multinic2", nic).await;
        scene.wait_reported(node, &[&first[node], &second[node], nic]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn agents_do_with_their_rights_and_with_no_fewer_on_every_kind_of_node() {
    if !Cluster::supported() {
        return;
    }
    let mut scene = Scene::on(&scene::EVERY_KIND, "agent");
    scene.deploy().await;
    let mut feed = Feed::objects();
    let (first, plugged) = feed.one_more_for_each(&mut scene, "ens4").await;
    for (node, nic) in first.iter().enumerate() {
        scene.wait_configured(node, "multinic0", nic).await;
        scene.wait_reported(node, &[nic]).await;
    }
    // Not through the test harness, which hides what a passing test prints.
    let line = format!(
        "{} nodes, each with another network manager: every NIC verified and reported {:.1?} after it was plugged\n",
        first.len(),
        plugged.elapsed()
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    let mut watches: Vec<_> = first.iter().enumerate().map(|(node, nic)| scene.watch(node, &[nic])).collect();
    pods_that_lack_a_right_say_so(&mut scene, &mut feed, &first).await;
    watches.iter_mut().for_each(nics::Watch::assert_kept);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn agents_keep_the_nics_of_their_objects_over_dead_pods_reboots_and_updates() {
    if !Cluster::supported() {
        return;
    }
    let mut scene = Scene::start("agent");
    scene.deploy().await;
    let mut feed = Feed::objects();
    nics_outlive_pods_nodes_and_versions(&mut scene, &mut feed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn what_a_cloud_attaches_is_a_working_nic_from_either_data_source() {
    if !Cluster::supported() || !MariaDb::installed() {
        return;
    }
    let mut scene = Scene::start("default");
    scene.add_database();
    scene.deploy().await;
    let mut feed = Feed::cloud(&scene);
    let kept = nics_outlive_pods_nodes_and_versions(&mut scene, &mut feed).await;

    // The other source speaks of the same NICs: nothing is taken away on the way to it, and what is detached then goes.
    let [first, second] = [&kept.0, &kept.1];
    let mut watches = [scene.watch(0, &[first]), scene.watch(1, &[second])];
    scene.deployed.source = Source::Database;
    scene.deploy().await;
    scene.wait_reported(0, &[first]).await;
    let new = feed.attach(&scene, 0).await;
    scene.plug(0, &new, "ens5");
    scene.wait_configured(0, "multinic1", &new).await;
    scene.wait_reported(0, &[first, &new]).await;
    kill_agent(&scene, 0, scene::Kill::AtOnce).await;
    feed.detach(&scene, 0, &new).await;
    scene.wait_released(0, &new).await;
    scene.wait_agents().await;
    watches.iter_mut().for_each(nics::Watch::assert_kept);
    scene.cluster.reboot(1).unwrap();
    scene.wait_configured(1, "multinic0", second).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn nics_outlive_all_that_helm_does_and_go_when_they_are_to_go() {
    if !Cluster::supported() || kubernetes::helm().is_none() {
        return;
    }
    let mut scene = Scene::start("default");
    chart::helm(&scene, "install", "image.tag=1").await;
    let mut feed = Feed::cloud(&scene);
    let nics = feed.one_for_each(&mut scene).await;
    let mut watches = [0, 1, 2].map(|node| scene.watch(node, &[&nics[node]]));
    let texts = "image.tag=2,agent.pollInterval=15s";
    let has_drop_in = |node: usize| {
        let path = "/etc/systemd/networkd.conf.d/10-multinic.conf";
        scene.cluster.guest(node).unwrap().path(path).exists()
    };
    assert_eq!([0, 1, 2].map(has_drop_in), [false; 3]);
    chart::helm_with(&scene, "upgrade", texts, "agent.installDropIn=true").await;
    assert_eq!(chart::images(&scene), ["localhost/multinic-agent:2", "localhost/multinic:2"]);
    // Where networkd runs.
    assert_eq!([0, 1, 2].map(has_drop_in), [true, true, false]);
    chart::helm(&scene, "rollback", "").await;
    assert_eq!(chart::images(&scene), ["localhost/multinic-agent:1", "localhost/multinic:1"]);
    for (node, nic) in nics.iter().enumerate() {
        scene.wait_reported(node, &[nic]).await;
    }

    // Without programs, the NICs are as they were; with them again, the same NICs are theirs again. Images come by ssh now,
    // and at last an operator makes the controller.
    chart::script(&scene, "cleanup.sh", &[]);
    let ssh = Ssh::start(&scene);
    let [script, of_operator] = ["deploy.sh", "deploy-operator.sh"];
    for (script, tag, secret) in [(script, "3", ssh.key()), (of_operator, "4", ssh.password())] {
        let said = ssh.deploy(&scene, script, tag, &secret);
        for node in 0..nics.len() {
            assert!(said.contains(&format!("{} has them", scene.cluster.address(node).unwrap())), "{said}");
        }
        let images = chart::images(&scene);
        assert!(images.iter().all(|image| image.ends_with(&format!(":{tag}"))), "{images:?}");
        for (node, nic) in nics.iter().enumerate() {
            scene.wait_reported(node, &[nic]).await;
        }
    }
    assert_eq!(chart::images(&scene).len(), 3);
    watches.iter_mut().for_each(nics::Watch::assert_kept);

    let everything = [
        ("CLEAN_NODES", "true"),
        ("DELETE_DEFINITIONS", "true"),
        ("DELETE_NAMESPACE", "true"),
        ("TIMEOUT", "120"),
    ];
    let said = chart::script_among_nodes(&scene, "cleanup-operator.sh", &everything);
    for (node, nic) in nics.iter().enumerate() {
        assert!(
            said.contains(&format!(
                "gone: MultiNicNodeConfig   multinic-system   {}",
                scene::node_name(node)
            )),
            "{said}"
        );
        assert!(!nic.is_addressed(scene.cluster.guest(node).unwrap()));
    }
    assert_eq!(chart::left(&scene), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn an_uninstall_that_is_to_clean_nodes_waits_for_every_agent_and_else_takes_nothing_away() {
    if !Cluster::supported() || kubernetes::helm().is_none() {
        return;
    }
    let mut scene = Scene::start("default");
    let values = "image.tag=1,uninstall.timeout=20s";
    chart::helm_with(&scene, "install", values, "uninstall.cleanNodes=true").await;
    let mut feed = Feed::cloud(&scene);
    let nics = feed.one_for_each(&mut scene).await;
    // One more that waits for an object, besides its agent.
    chart::hold(&scene, 1, true);
    let refused = chart::uninstall(&scene);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(chart::images(&scene), ["localhost/multinic-agent:1", "localhost/multinic:1"]);
    let logs = [0, 1, 2].map(|node| scene.cluster.logs(node, NAMESPACE, "multinic-uninstall").unwrap());
    let logs = logs.concat();
    assert!(logs.contains("left: ") && logs.contains("tenant"), "{logs}");

    chart::hold(&scene, 1, false);
    chart::uninstall(&scene).unwrap();
    for (node, nic) in nics.iter().enumerate() {
        assert!(!nic.is_addressed(scene.cluster.guest(node).unwrap()));
    }
    let left = chart::left(&scene);
    assert!(left.iter().all(|name| name.starts_with("customresourcedefinition")), "{left:?}");
    assert_eq!(scene.kubectl(&["get", "mnnc,osc", "--all-namespaces", "--output=name"]), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a Kubernetes of its own: make test-cluster"]
async fn nics_outlive_all_that_happens_to_an_operator_and_to_the_database_that_it_runs() {
    if !Cluster::supported() || kubernetes::helm().is_none() {
        return;
    }
    let mut scene = Scene::start("default");
    scene.deployed.source = Source::Database;
    operated::prepare(&scene);
    operated::helm(&scene, "install", &operated::values("1")).await;
    let mut feed = Feed::cloud(&scene);
    let nics = feed.one_for_each(&mut scene).await;
    scene.assert_reaches(0, &nics[1]);
    let mut watches = [0, 1, 2].map(|node| scene.watch(node, &[&nics[node]]));

    // What is attached while the database is away is a NIC once it is back.
    operated::kill(&scene, "mariadb").await;
    let late = feed.attach(&scene, 1).await;
    scene.plug(1, &late, "ens5");
    scene.wait_configured(1, "multinic1", &late).await;
    scene.wait_reported(1, &[&nics[1], &late]).await;

    // So is what is attached while the operator is away. It puts back what somebody deleted meanwhile, agents among it.
    operated::kill(&scene, "multinic-operator").await;
    scene.kubectl(&["delete", "daemonset/multinic-agent", "service/mariadb", "--namespace", NAMESPACE]);
    operated::wait_ready(&scene).await;
    feed.detach(&scene, 1, &late).await;
    scene.wait_released(1, &late).await;
    scene.wait_reported(1, &[&nics[1]]).await;
    watches.iter_mut().for_each(nics::Watch::assert_kept);

    // The node with the database.
    scene.cluster.reboot(operated::NODE).unwrap();
    scene.wait_configured(operated::NODE, "multinic0", &nics[operated::NODE]).await;
    watches[operated::NODE] = scene.watch(operated::NODE, &[&nics[operated::NODE]]);
    scene.cluster.start_kubelet(operated::NODE).unwrap();
    operated::wait_ready(&scene).await;

    // Operator, controller, agents and database of another version, and of the one before.
    operated::helm(&scene, "upgrade", &operated::values("2")).await;
    operated::helm(&scene, "rollback", &operated::values("1")).await;
    watches.iter_mut().for_each(nics::Watch::assert_kept);

    // Without programs, the NICs are as they were. Volume and passwords are there, and with them all that was known. Of the
    // whole cluster, nothing has any more than the definitions.
    chart::uninstall(&scene).unwrap();
    let left = chart::left(&scene);
    assert!(left.iter().all(|name| name.starts_with("customresourcedefinition")), "{left:?}");
    scene
        .until("the end of all programs", async || {
            let images = chart::images(&scene);
            (!images.is_empty()).then(|| images.join(", "))
        })
        .await;
    operated::helm(&scene, "install", &operated::values("2")).await;
    for (node, nic) in nics.iter().enumerate() {
        scene.wait_reported(node, &[nic]).await;
    }
    let new = feed.attach(&scene, 2).await;
    scene.plug(2, &new, "ens5");
    scene.wait_configured(2, "multinic1", &new).await;
    scene.wait_reported(2, &[&nics[2], &new]).await;
    watches.iter_mut().for_each(nics::Watch::assert_kept);

    let everything = [
        ("CLEAN_NODES", "true"),
        ("DELETE_DEFINITIONS", "true"),
        ("DELETE_NAMESPACE", "true"),
        ("TIMEOUT", "120"),
    ];
    chart::script(&scene, "cleanup-operator.sh", &everything);
    for (node, nic) in nics.iter().enumerate() {
        assert!(!nic.is_addressed(scene.cluster.guest(node).unwrap()), "{nic:?}");
    }
    assert!(!new.is_addressed(scene.cluster.guest(2).unwrap()));
    assert_eq!(chart::left(&scene), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, a Kubernetes and an OpenStack of its own: make test-system"]
async fn the_whole_system_makes_working_nics_of_neutron_ports() {
    if !Cluster::supported() || kubernetes::helm().is_none() {
        return;
    }
    let mut steps = Steps::default();
    let now = Instant::now();
    let mut cloud = Cloud::start();
    steps.add("Keystone, Neutron with OVN and Nova started, three servers made", now);
    let now = Instant::now();
    let mut scene = Scene::start("default");
    scene.deployed.source = Source::Database;
    operated::prepare(&scene);
    cloud.place(&scene);
    steps.add("a cluster of three nodes booted, with all images", now);
    let now = Instant::now();
    let mut values = operated::values("1");
    values["uninstall"] = json!({ "cleanNodes": true, "timeout": "2m" });
    values["operator"]["spec"]["openstack"] = json!({
        "identityEndpoint": cloud.seen(&scene, "auth_url"),
        "networkEndpoint": cloud.seen(&scene, "neutron_url"),
        "computeEndpoint": cloud.seen(&scene, "nova_url"),
    });
    operated::helm(&scene, "install", &values).await;
    steps.add("`helm install`: operator, MariaDB, controller and agents ready", now);
    let now = Instant::now();
    cloud.configure(&scene);
    scene.wait_config("True").await;
    steps.add("OpenstackConfig applied: `Ready`", now);

    // One node after the other; the first is the one that the clock is on.
    let now = Instant::now();
    let first = cloud.port();
    steps.add("port made, by Neutron's API", now);
    let now = Instant::now();
    cloud.attach(0, &first);
    steps.add("port attached, by Nova's API: `ACTIVE`", now);
    scene.wait_configured(0, "multinic0", &first).await;
    steps.add("– from the request on: a verified NIC `multinic0` with the port's address", now);
    scene.wait_reported(0, &[&first]).await;
    steps.add("– and the agent's word for it in the database", now);
    let second = cloud.port();
    cloud.attach(1, &second);
    scene.wait_configured(1, "multinic0", &second).await;
    scene.wait_reported(1, &[&second]).await;
    let now = Instant::now();
    scene.assert_reaches(0, &second);
    steps.add("first ping from node to node through OVN", now);
    scene.assert_reaches(1, &first);

    let mut watch = scene.watch(0, &[&first]);
    let now = Instant::now();
    cloud.detach(1, &second);
    steps.add("port detached, by Nova's API: `DOWN`", now);
    system::wait_forgotten(&scene, 1, &second).await;
    scene.wait_reported(1, &[]).await;
    steps.add("– from the request on: no NIC, no file of it, no word of it in the database", now);
    watch.assert_kept();
    let now = Instant::now();
    chart::uninstall(&scene).unwrap();
    assert!(!first.is_addressed(scene.cluster.guest(0).unwrap()));
    steps.add("`helm uninstall` with `uninstall.cleanNodes`: the other NIC is given back", now);
    let left = chart::left(&scene);
    assert!(left.iter().all(|name| name.starts_with("customresourcedefinition")), "{left:?}");
    println!("{}", steps.table());
}

/// The other tests would prove nothing without this one.
#[test]
#[should_panic(expected = "DelAddress")]
fn an_address_that_is_away_for_a_moment_is_noticed() {
    let node = NetNs::new("watched").unwrap();
    let wanted = Wanted {
        mac: "fa:16:3e:00:01:01".parse().unwrap(),
        address: "192.0.2.1/24".parse().unwrap(),
        mtu: 1450,
        port: String::new(),
    };
    node.add_address("lo", wanted.address, None).unwrap();
    let mut watch = nics::Watch::start(&node, &[&wanted]);
    watch.assert_kept();
    node.remove_address("lo", wanted.address).unwrap();
    node.add_address("lo", wanted.address, None).unwrap();
    watch.assert_kept();
}
