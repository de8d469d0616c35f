//! The agent dies in the middle of its work.

use crate::guards::until_undone;
use crate::kinds::Kind;
use crate::life::swap_names;
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

/// Of two NICs with each other's names, the first one steps aside. What is to give it its own name then fails, or ends with the
/// agent: meanwhile the NIC has a name that no file is for, and is none of the manager's.
pub fn a_nic_that_stepped_aside_stays_in_service_when_the_next_change_fails(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let before = node.foreign();
    let nics @ [first, second] = &[Wanted::new(0, 10), Wanted::new(1, 11)];
    node.start_agent();
    for wanted in nics {
        node.attach(wanted);
        node.until_configured(wanted);
    }
    for act in ["fail", "kill"] {
        swap_names(&node, [first, second]);
        // So that this change passes a point that the others do not.
        std::fs::remove_file(node.guest.path(&kind.files(first.slot)[0])).unwrap();
        node.start_agent_with(&format!("MULTINIC_FAULT=step.write_file={act}\nSAFE_APPLY_TIMEOUT=30s\n"));
        if act == "fail" {
            let said = "fault injected at step.write_file; rolled back";
            node.until("a change that is undone", || {
                (!node.agent_log().contains(said)).then(|| "not yet".to_owned())
            });
            node.stop_agent();
        } else {
            node.until_agent_ends();
            until_undone(&node);
        }
        node.until("a NIC that waits for its name", || node.fault_aside(first));
        assert_eq!(node.kernel_fault(second), None);
        node.start_agent();
        nics.iter().for_each(|wanted| node.until_configured(wanted));
    }
    before.assert_same(&node.foreign());
}
