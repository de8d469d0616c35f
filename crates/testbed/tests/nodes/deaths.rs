//! The agent dies in the middle of its work.

use crate::kinds::Kind;
use crate::node::{Node, addresses_of};
use crate::wanted::Wanted;

/// Some of the points between two effects on the node; in namespaces all are tried.
const POINTS: [&str; 6] = [
    "journal.written",
    "step.rename",
    "step.add_address",
    "step.write_file",
    "verify.done",
    "commit.written",
];

pub fn a_dead_agent_leaves_nothing_half_done(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let before = node.foreign();
    let other = Wanted::new(9, 19);
    node.start_agent();
    node.attach(&other);
    node.until_configured(&other);
    node.kill_agent();
    let mut kept = node.watch();
    for (number, point) in (0..).zip(POINTS) {
        let mut wanted = Wanted::new(number, 20 + number);
        node.attach(&wanted);
        node.start_agent_with(&format!("MULTINIC_FAULT={point}=kill\n"));
        node.until_agent_ends();
        node.start_agent();
        node.until_configured(&wanted);
        node.kill_agent();
        // The same in the middle of a change.
        wanted.addresses = vec![format!("10.50.0.{}/24", 120 + number).parse().unwrap()];
        node.publish(&wanted);
        node.start_agent_with("MULTINIC_FAULT=step.remove_address=kill\n");
        node.until_agent_ends();
        node.start_agent();
        node.until_configured(&wanted);
        node.kill_agent();
    }
    kept.assert_keeps(&addresses_of(&[&other]));
    before.assert_same(&node.foreign());
}
