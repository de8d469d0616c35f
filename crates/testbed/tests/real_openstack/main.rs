//! The whole job against a real Keystone, Neutron and Nova and a real MariaDB, with the real binaries: what is attached
//! in the cloud is a working NIC in a namespace, and what fails takes nothing away.
//!
//! `make test-openstack` runs these; they need root and some minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod scene;
mod world;

use serde_json::json;

use scene::Scene;
use world::{Nic, World};

#[test]
#[ignore = "needs root and a real OpenStack: make test-openstack"]
fn ports_of_two_subnets_and_an_ipv6_subnet_become_working_nics_and_go_again() {
    let mut world = World::get();
    let blue = world.network("blue", 1450, &["10.31.0.0/24"]);
    let green = world.network("green", 1400, &["10.32.0.0/24", "fd00:32::/64"]);
    let mut scene = Scene::new(&mut world, "two-subnets", &[&blue, &green]);
    let first = scene.attach(&mut world, 0, &blue, "ens4");
    let second = scene.attach(&mut world, 0, &green, "ens5");
    assert_eq!(second.addresses.len(), 2);
    scene.wait_configured(0, &first, "multinic0", 1450);
    scene.wait_configured(0, &second, "multinic1", 1400);
    scene.wait_applied(&world, &[&first, &second]);

    // And it carries traffic between two nodes.
    let other = scene.attach(&mut world, 1, &blue, "ens4");
    scene.wait_configured(1, &other, "multinic0", 1450);
    scene.wait_reaches(0, &other);

    world.call("detach", &json!({ "server": scene.server(0), "port": second.port }));
    scene.wait_released(0, &second, "ens5");
    scene.wait_configured(0, &first, "multinic0", 1450);
    world.call("port-delete", &json!({ "port": first.port }));
    scene.wait_released(0, &first, "ens4");
    scene.end();
}

#[test]
#[ignore = "needs root and a real OpenStack: make test-openstack"]
fn a_port_that_is_down_is_configured_and_stays() {
    let mut world = World::get();
    let blue = world.network("down", 1450, &["10.33.0.0/24"]);
    let mut scene = Scene::new(&mut world, "down-port", &[&blue]);
    let nic = scene.attach(&mut world, 0, &blue, "ens4");
    scene.wait_configured(0, &nic, "multinic0", 1450);
    world.call("port-status", &json!({ "port": nic.port, "status": "DOWN" }));
    scene.wait_status("downPortRetry");
    scene.assert_untouched_for_passes(&[(0, &nic, "multinic0", 1450)], 2);
    world.call("port-status", &json!({ "port": nic.port, "status": "ACTIVE" }));
    scene.wait_status_without("downPortRetry");
    scene.end();
}

#[test]
#[ignore = "needs root and a real OpenStack: make test-openstack"]
fn a_wrong_password_and_lost_rights_take_nothing_away() {
    let mut world = World::get();
    let blue = world.network("rights", 1450, &["10.34.0.0/24"]);
    let mut scene = Scene::new(&mut world, "rights", &[&blue]);
    let nic = scene.attach(&mut world, 0, &blue, "ens4");
    scene.wait_configured(0, &nic, "multinic0", 1450);
    let user = scene.user().to_owned();

    // A token outlives its password: only who asks for a new one is refused.
    world.call("password-set", &json!({ "user": user, "password": "another" }));
    scene.restart_controller();
    scene.wait_status("KeystoneError");
    scene.assert_untouched_for_passes(&[(0, &nic, "multinic0", 1450)], 2);
    world.call("password-set", &json!({ "user": user, "password": scene::PASSWORD }));
    scene.wait_status("reason: NoChange");

    world.call("role-revoke", &json!({ "user": user, "role": "reader" }));
    scene.restart_controller();
    scene.wait_status("KeystoneError");
    // Nobody may take the silence of a project without rights for the absence of its ports.
    scene.assert_untouched_for_passes(&[(0, &nic, "multinic0", 1450)], 2);
    world.call("role-grant", &json!({ "user": user, "role": "reader" }));
    scene.wait_status("reason: NoChange");
    scene.end();
}

#[test]
#[ignore = "needs root and a real OpenStack: make test-openstack"]
fn a_restart_of_any_part_in_the_middle_takes_nothing_away_and_loses_nothing() {
    let mut world = World::get();
    let blue = world.network("restart", 1450, &["10.35.0.0/24"]);
    let mut scene = Scene::new(&mut world, "restart", &[&blue]);
    let first = scene.attach(&mut world, 0, &blue, "ens4");
    scene.wait_configured(0, &first, "multinic0", 1450);

    let configured = [(0, &first, "multinic0", 1450)];
    world.call("service-stop", &json!({ "service": "neutron" }));
    // Whichever of its lists is asked for first.
    scene.wait_status("reason: Neutron");
    scene.assert_untouched_for_passes(&configured, 1);
    world.call("service-start", &json!({ "service": "neutron" }));
    scene.wait_status("reason: NoChange");

    world.call("service-stop", &json!({ "service": "keystone" }));
    scene.restart_controller();
    scene.wait_status("KeystoneError");
    world.call("service-start", &json!({ "service": "keystone" }));
    scene.wait_status("reason: NoChange");

    // A change arrives while one part after the other is away.
    scene.kill_agent(0);
    let second = scene.attach(&mut world, 0, &blue, "ens5");
    scene.start_agent(0);
    scene.wait_configured(0, &second, "multinic1", 1450);
    scene.kill_controller();
    let third = scene.attach(&mut world, 0, &blue, "ens6");
    scene.start_controller();
    scene.wait_configured(0, &third, "multinic2", 1450);
    world.database.restart().unwrap();
    world.call("detach", &json!({ "server": scene.server(0), "port": second.port }));
    scene.wait_released(0, &second, "ens5");
    scene.wait_configured(0, &first, "multinic0", 1450);
    scene.wait_configured(0, &third, "multinic2", 1450);
    scene.end();
}

#[test]
#[ignore = "needs root and a real OpenStack: make test-openstack"]
fn an_application_credential_and_servers_by_name_and_metadata_do_as_well() {
    let mut world = World::get();
    let blue = world.network("credential", 1450, &["10.36.0.0/24"]);
    let mut scene = Scene::new(&mut world, "credential", &[&blue]);
    let credential = world.call(
        "application-credential-create",
        &json!({ "name": "multinic", "username": scene.user_name(), "password": scene::PASSWORD, "roles": ["reader"] }),
    );
    scene.use_application_credential(&world, &credential);
    let nic: Nic = scene.attach(&mut world, 0, &blue, "ens4");
    scene.wait_configured(0, &nic, "multinic0", 1450);
    scene.end();
}
