//! What the Node tells of its kubelet, to an agent that cannot read the kubelet's arguments and may not read Nodes.

use serde_json::{Value, json};

use crate::agent::{SELDOM, run};
use crate::cluster::Cluster;
use crate::database::nic;
use crate::world::{World, wait_until};

#[test]
fn a_node_whose_address_the_cloud_chooses_is_told_of_unless_the_kubelet_was_given_it() {
    let world = World::new();
    let Some(cluster) = Cluster::new(&world) else { return };
    let nic = nic(0);
    world.plug(&nic);
    cluster.apply(std::slice::from_ref(&nic));
    let told = || {
        let output = run(&world, &["doctor", "--output", "json"], &cluster.variables(&[]));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["unread"], Value::Null, "{output:?}");
        answer["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "NodeAddressMayMove")
    };
    assert!(!told());
    cluster.patch_node(&json!({"spec": {"providerID": "openstack:///2f6e1a0c-0000-4000-8000-000000000001"}}));
    assert!(told());
    let agent = cluster.start(&world, &[SELDOM]);
    let sample = r#"multinic_host_findings{code="NodeAddressMayMove",severity="warn"}"#;
    wait_until(|| agent.log(), || agent.get("/metrics").1.contains(sample));
    let given = json!({"metadata": {"annotations": {"alpha.kubernetes.io/provided-node-ip": "192.0.2.10"}}});
    cluster.patch_node(&given);
    assert!(!told());
}
