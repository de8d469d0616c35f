//! Through Viola, into two clusters.

use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::node::Switch;
use serde_json::json;

use crate::agreement::{wrong_in_cluster, wrong_in_config, wrong_in_inventory};
use crate::cloud::{Cloud, macs_from};
use crate::node::{Nic, Node};
use crate::programs::{Deployment, Viola, service_account};
use crate::site::Site;
use crate::waiting::{wait, wait_until_right};

const TOKEN: &str = "viola-caller-token";

#[test]
fn each_providers_nodes_land_in_its_own_cluster_through_viola() {
    if !ControlPlane::installed() {
        return;
    }
    let (plane, other) = (ControlPlane::shared().unwrap(), ControlPlane::start().unwrap());
    // The controller's own, and the two that Viola writes to.
    let sites = [Site::new(plane), Site::new(plane), Site::new(&other)];
    let [home, blue, green] = &sites;
    let (cloud, switch) = (Cloud::new(), Switch::new().unwrap());
    let accounts = [
        service_account(blue, plane, None, "multinic-viola"),
        service_account(green, &other, None, "multinic-viola"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let targets = [("blue", blue, &accounts[0]), ("green", green, &accounts[1])];
    let viola = Viola::start(folder.path(), &targets, TOKEN);

    let name = format!("{}-worker", home.namespace);
    let servers = [cloud.simulator.add_server(&name), cloud.simulator.add_server(&format!("{name}-green"))];
    let ports = servers.each_ref().map(|server| cloud.attach(server));
    let nics = ports.each_ref().map(|port| Nic::new(port, 0));
    let mut nodes = [
        Node::new(blue, plane, None, &switch, &name, &servers[0]),
        Node::new(green, &other, None, &switch, &format!("{name}-green"), &servers[1]),
    ];
    let mut guards = Vec::new();
    for (node, nic) in nodes.iter_mut().zip(&nics) {
        node.plug(&switch, nic);
        guards.push(node.guard(&macs_from(1)));
        node.start_agent();
    }
    let mut deployment = Deployment::new(home, plane, None);
    deployment.set("SINKS", "viola");
    deployment.set("VIOLA_ENDPOINT", &viola.url());
    deployment.set("VIOLA_TOKEN", TOKEN);
    let controller = deployment.start("controller");
    for (provider, server) in ["blue", "green"].into_iter().zip(&servers) {
        let mut spec = cloud.spec(&[server]);
        spec["credentials"]["k8sProviderID"] = json!(provider);
        home.apply_config(provider, &spec);
    }
    let context = || {
        let agents = nodes.each_ref().map(Node::last_lines).join("\n");
        format!("{}\nviola:\n{}\n{agents}", controller.last_lines(), viola.program.last_lines(10))
    };
    let agreed = |place: usize, nics: &[&Nic]| {
        let (provider, site) = [("blue", blue), ("green", green)][place];
        let wrong = || {
            wrong_in_cluster(site, &nodes[place], nics)
                .or_else(|| wrong_in_config(home, provider, nics.len()))
                .or_else(|| wrong_in_inventory(&controller, provider, &nodes[place].name, nics, false))
        };
        wait_until_right(wrong, context);
    };
    agreed(0, &[&nics[0]]);
    agreed(1, &[&nics[1]]);
    assert_eq!((home.objects().len(), blue.objects().len(), green.objects().len()), (0, 1, 1));
    assert!(green.object(&name).is_none());

    // One gets another NIC, of which the other cluster learns nothing.
    let generation = green.objects()[0]["metadata"]["generation"].clone();
    let second = Nic::new(&cloud.attach(&servers[0]), 1);
    nodes[0].plug(&switch, &second);
    agreed(0, &[&nics[0], &second]);
    assert_eq!(green.objects()[0]["metadata"]["generation"], generation);

    // A port less.
    cloud.simulator.delete_port(&ports[0].port).unwrap();
    agreed(0, &[&second]);
    nodes[0].wait_released(&nics[0]);

    // The end of one, told by a request of its own; the other stays as it is.
    let untouched = nodes[1].guard(&[]);
    home.delete_config("blue");
    nodes[0].wait_released(&second);
    wait(context, || blue.objects().is_empty() && home.config("blue").is_none());
    wait(context, || controller.records().iter().all(|record| record["providerId"] == "green"));
    agreed(1, &[&nics[1]]);
    nodes[1].assert_untouched(untouched);
    for (node, guard) in nodes.iter().zip(guards) {
        node.assert_untouched(guard);
    }
    controller.stop();
    for node in &mut nodes {
        node.stop_agent();
    }
}
