//! The API server goes and comes, forgets and refuses, and does not know our resources for a while: that costs time and
//! nothing else.

use std::time::Duration;

use multinic_testbed::kubernetes::{ControlPlane, FaultProxy};

use crate::scene::Scene;
use crate::waiting::wait;

const CONFIGS: &str = "openstackconfigs.multinic.example.com";
const NODE_CONFIGS: &str = "multinicnodeconfigs.multinic.io";

#[test]
fn an_api_server_that_dies_and_definitions_that_go_away_take_nothing_away() {
    if !ControlPlane::installed() {
        return;
    }
    let mut plane = ControlPlane::start().unwrap();
    let scene = Scene::new(&plane, None);
    scene.apply();
    let controller = scene.deployment.start("controller");
    scene.wait_agreed(&controller, &[&scene.first]);
    let guard = scene.guard_first();

    // It dies, the cloud changes, and it comes back.
    plane.kill();
    let second = scene.attach(1);
    // Nobody knows who leads now, so nobody works.
    wait(|| controller.last_lines(), || !controller.leads());
    wait(|| scene.node.last_lines(), || scene.node.get("/").0 == 503);
    assert_eq!(scene.node.wrong_with(&scene.first), None);
    plane.restart().unwrap();
    scene.wait_agreed(&controller, &[&scene.first, &second]);

    // The definition of nodes is not served for a while; nobody takes that for the end of the objects.
    let uid = scene.site.object(&scene.node.name).unwrap()["metadata"]["uid"].clone();
    scene.site.serve(NODE_CONFIGS, false);
    wait(|| scene.node.last_lines(), || scene.node.get("/").0 == 503);
    let third = scene.attach(2);
    wait(|| controller.last_lines(), || scene.site.condition("tenant", "Published")[0] == "False");
    assert_eq!(scene.node.wrong_with(&scene.first), None);
    assert_eq!(scene.node.wrong_with(&second), None);
    scene.site.serve(NODE_CONFIGS, true);
    scene.wait_agreed(&controller, &[&scene.first, &second, &third]);
    assert_eq!(scene.site.object(&scene.node.name).unwrap()["metadata"]["uid"], uid);

    // The definition of configurations is deleted, and with it every configuration: nobody asked for NICs to go.
    let rest = scene.node.guard(&[]);
    scene.site.delete_definition(CONFIGS);
    scene.node.assert_untouched(rest);
    crate::waiting::run(async {
        for definition in multinic_api::definitions::all() {
            plane.install_crd(&definition).await.unwrap();
        }
    });
    scene.apply();
    scene.wait_agreed(&controller, &[&scene.first, &second, &third]);
    assert_eq!(scene.site.object(&scene.node.name).unwrap()["metadata"]["uid"], uid);
    let fourth = scene.attach(3);
    scene.wait_agreed(&controller, &[&scene.first, &second, &third, &fourth]);
    scene.end(controller, guard);
}

#[test]
fn cut_watches_conflicts_and_expired_versions_only_cost_time() {
    if !ControlPlane::installed() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let proxy = FaultProxy::start(plane).unwrap();
    let scene = Scene::new(plane, Some(&proxy));
    // Every write of every program has its conflict, and no watch lasts.
    proxy.conflict_once(true);
    proxy.limit_watches(Some(Duration::from_millis(20)..Duration::from_millis(1000)));
    let controller = scene.deployment.start("controller");
    scene.apply();
    scene.wait_agreed(&controller, &[&scene.first]);
    let guard = scene.guard_first();
    let mut nics = vec![scene.first.clone()];
    for slot in 1..4 {
        proxy.conflict_once(true);
        for resource in ["openstackconfigs", "multinicnodeconfigs"] {
            proxy.expire_next(resource, 2);
        }
        proxy.cut_watches();
        nics.push(scene.attach(slot));
        scene.wait_agreed(&controller, &nics.iter().collect::<Vec<_>>());
    }
    // A removal, too, comes through, and comes to no other.
    let gone = nics.pop().unwrap();
    scene.cloud.simulator.delete_port(&gone.port.as_str().into()).unwrap();
    scene.wait_agreed(&controller, &nics.iter().collect::<Vec<_>>());
    scene.node.wait_released(&gone);
    let conflicts = proxy.records().iter().filter(|record| record.status == 409).count();
    assert!(conflicts > 5, "{:?}", proxy.counts());
    proxy.heal();
    scene.end(controller, guard);
}
