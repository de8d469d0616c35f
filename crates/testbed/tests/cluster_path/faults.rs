//! A controller dies in the middle, and Secrets change: everything comes to the right end, and what works is not touched
//! meanwhile.

use std::time::Duration;

use multinic_testbed::cloud_simulator::{Fault, USER};
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::json;

use crate::agreement::wrong_in_cluster;
use crate::node::Nic;
use crate::scene::Scene;
use crate::waiting::{wait, wait_until_right};

#[test]
fn a_controller_that_is_killed_in_the_middle_is_finished_by_the_next_also_without_its_ledger() {
    if !ControlPlane::installed() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let mut scene = Scene::new(plane, None);
    scene.apply();
    let mut controller = scene.deployment.start("controller");
    scene.wait_agreed(&controller, &[&scene.first]);
    let guard = scene.guard_first();
    let mut nics = vec![scene.first.clone()];

    // While it waits for the cloud; between the ledger and the object; while it tells what it did.
    type Moment = fn(&Scene, &Nic) -> bool;
    let moments: [Moment; 3] = [
        |scene, _| {
            scene.cloud.simulator.requests().iter().any(|request| request.path.starts_with("/v2.0/ports"))
        },
        |scene, nic| {
            let ledger =
                std::fs::read(scene.deployment.folder.path().join("ledger.db-wal")).unwrap_or_default();
            let port = nic.port.as_bytes();
            ledger.windows(port.len()).any(|bytes| bytes == port)
        },
        |scene, nic| {
            let object = scene.site.object(&scene.node.name).unwrap_or_default();
            object["spec"]["interfaces"].to_string().contains(&nic.port)
        },
    ];
    for (place, moment) in moments.into_iter().enumerate() {
        if place == 0 {
            scene.cloud.simulator.inject("/v2.0/ports", Fault::Delay(Duration::from_secs(2)));
            scene.cloud.simulator.forget_requests();
        }
        nics.push(scene.attach(u8::try_from(place).unwrap() + 1));
        wait(|| controller.last_lines(), || moment(&scene, nics.last().unwrap()));
        controller.kill();
        scene.cloud.simulator.clear_faults();
        controller = scene.deployment.start("controller");
        scene.wait_agreed(&controller, &nics.iter().collect::<Vec<_>>());
    }

    // A slot is free, the ledger and the inventory are lost, and the cloud changes while nobody looks: whoever has a name
    // keeps it.
    let gone = nics.remove(1);
    scene.cloud.simulator.delete_port(&gone.port.as_str().into()).unwrap();
    scene.wait_agreed(&controller, &nics.iter().collect::<Vec<_>>());
    controller.kill();
    let folder = scene.deployment.folder.path();
    scene.deployment.set("DATABASE_URL", &format!("sqlite://{}", folder.join("another.db").display()));
    let folder = scene.deployment.folder.path();
    scene.deployment.set("INVENTORY_DB_PATH", &folder.join("another-inventory.db").display().to_string());
    let rest = scene.node.guard(&[]);
    let controller = scene.deployment.start("controller");
    scene.wait_passes(&controller, 2);
    scene.wait_agreed(&controller, &nics.iter().collect::<Vec<_>>());
    scene.node.assert_untouched(rest);
    // What was published by another can be taken away by the one that found it.
    let last = nics.pop().unwrap();
    scene.cloud.simulator.delete_port(&last.port.as_str().into()).unwrap();
    scene.wait_agreed(&controller, &nics.iter().collect::<Vec<_>>());
    scene.node.wait_released(&last);
    scene.end(controller, guard);
}

#[test]
fn a_password_that_rotates_is_taken_up_and_no_nic_goes_meanwhile() {
    if !ControlPlane::installed() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let scene = Scene::new(plane, None);
    let (user, _, password) = USER;
    let mut spec = scene.cloud.spec(&[&scene.server]);
    spec["credentials"].as_object_mut().unwrap().remove("password");
    spec["secrets"] = json!({"passwordSecretRef": {"name": "cloud", "key": "password"}});
    scene.site.write_secret("cloud", &[("password", password)]);
    scene.site.apply_config("tenant", &spec);
    let controller = scene.deployment.start("controller");
    scene.wait_agreed(&controller, &[&scene.first]);
    let guard = scene.guard_first();

    scene.cloud.simulator.set_password(user, "another-password").unwrap();
    scene.cloud.simulator.expire_tokens();
    let second = scene.attach(1);
    wait(|| controller.last_lines(), || scene.site.condition("tenant", "Ready")[1] == "KeystoneError");
    let in_cluster = || wrong_in_cluster(&scene.site, &scene.node, &[&scene.first]);
    wait_until_right(in_cluster, || scene.node.last_lines());
    scene.site.write_secret("cloud", &[("password", "another-password\n")]);
    scene.wait_agreed(&controller, &[&scene.first, &second]);

    // The Secret is gone: what is there stays, and is not called in order.
    scene.site.delete_secret("cloud");
    wait(
        || format!("{:#}", scene.site.config("tenant").unwrap()),
        || scene.site.condition("tenant", "Ready")[1] == "ConfigError",
    );
    scene.site.write_secret("cloud", &[("password", "another-password")]);
    let third = scene.attach(2);
    scene.wait_agreed(&controller, &[&scene.first, &second, &third]);
    scene.end(controller, guard);
}
