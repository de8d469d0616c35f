//! From a configuration to a NIC and back, within one cluster.

use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::node::Switch;

use crate::agreement::{assert_nodes, wait_agreed};
use crate::cloud::{Cloud, macs_from};
use crate::node::{Nic, Node};
use crate::programs::Deployment;
use crate::site::Site;
use crate::waiting::wait;

#[test]
fn a_configuration_becomes_working_nics_that_everybody_agrees_on_and_goes_with_them() {
    if !ControlPlane::installed() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let (site, cloud, switch) = (Site::new(plane), Cloud::new(), Switch::new().unwrap());
    let name = format!("{}-worker", site.namespace);
    let server = cloud.simulator.add_server(&name);
    let port = cloud.attach(&server);
    let first = Nic::new(&port, 0);
    let mut node = Node::new(&site, plane, None, &switch, &name, &server);
    node.plug(&switch, &first);
    let guard = node.guard(&macs_from(1));

    // Whichever is there first.
    node.start_agent();
    let controller = Deployment::new(&site, plane, None);
    let controller = controller.start("controller");
    site.apply_config("tenant", &cloud.spec(&[&server]));
    wait_agreed(&site, &controller, "tenant", &node, &[&first]);
    assert_nodes(&site, &controller, &[&node]);
    let reasons = |name: &str, wanted: &str| {
        wait(
            || format!("{wanted} in {:?}", site.reasons(name)),
            || site.reasons(name).iter().any(|reason| reason == wanted),
        );
    };
    reasons("tenant", "Synced");
    reasons("tenant", "InlineSecret");
    reasons(&name, "InterfaceConfigured");

    // A second port, and its NIC only after it was asked for.
    let second = Nic::new(&cloud.attach(&server), 1);
    wait(
        || node.last_lines(),
        || site.object(&name).is_some_and(|object| object["status"]["state"] == "InProgress"),
    );
    assert_eq!(node.wrong_with(&first), None);
    node.plug(&switch, &second);
    wait_agreed(&site, &controller, "tenant", &node, &[&first, &second]);

    // What a port says changes.
    cloud.simulator.set_mtu(&cloud.network, Some(1400)).unwrap();
    let readdressed = Nic::new(&cloud.readdress(&port, "10.60.0.77"), 0).mtu(1400);
    assert_ne!(readdressed.addresses, first.addresses);
    let second = second.mtu(1400);
    wait_agreed(&site, &controller, "tenant", &node, &[&readdressed, &second]);

    // The slot of the one that stays is its own.
    cloud.simulator.delete_port(&port.port).unwrap();
    wait_agreed(&site, &controller, "tenant", &node, &[&second]);
    node.wait_released(&first);
    reasons(&name, "InterfaceRemoved");

    // The configuration waits until the node has given everything back.
    node.kill_agent();
    site.delete_config("tenant");
    wait(
        || format!("the object goes: {:?}\n{}", site.object(&name), controller.last_lines()),
        || site.object(&name).is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()),
    );
    assert!(site.object(&name).is_some(), "the agent holds the object while it has NICs");
    assert_eq!(node.wrong_with(&second), None);
    node.start_agent();
    node.wait_released(&second);
    let gone = || site.config("tenant").is_none() && site.object(&name).is_none();
    wait(|| format!("{:?} {:?}", site.config("tenant"), site.object(&name)), gone);
    wait(
        || format!("{:#}", site.node(&name)),
        || {
            let metadata = site.node(&name)["metadata"].clone();
            metadata["labels"]["multinic.io/interfaces"].is_null()
                && metadata["annotations"]["multinic.io/interfaces"].is_null()
        },
    );
    wait(|| format!("{:?}", controller.records()), || controller.records().is_empty());
    assert_eq!(controller.inventory(&format!("/v1/inventory/node-configs/{name}")).0, 404);
    reasons(&name, "CleanedUp");
    node.assert_untouched(guard);
    controller.stop();
    node.stop_agent();
    assert!(site.objects().is_empty());
}
