//! Everything of ours is taken away.

use crate::kinds::Kind;
use crate::node::Node;
use crate::wanted::Wanted;

pub fn a_clean_up_leaves_the_node_as_it_was(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let nics = [Wanted::new(0, 10), Wanted::new(9, 19)];
    nics.iter().for_each(|wanted| node.plug(wanted));
    if kind.network.has_network_manager() {
        nics.iter().for_each(|wanted| node.until_managed(wanted));
    }
    let [untouched, before] = [node.foreign(), node.everything()];
    for by_job in [false, true] {
        nics.iter().for_each(|wanted| node.publish(wanted));
        node.start_agent();
        nics.iter().for_each(|wanted| node.until_configured(wanted));
        node.stop_agent();
        if by_job {
            node.run_agent(&[("RUN_MODE", "job"), ("AGENT_ACTION", "cleanup")], &[]);
        } else {
            node.run_agent(&[], &["cleanup"]);
            nics.iter().for_each(|wanted| assert_eq!(node.kernel_fault(wanted), None));
            node.run_agent(&[], &["cleanup", "--yes"]);
        }
        for wanted in &nics {
            assert_eq!(node.left_file(wanted), None);
            assert_eq!(node.shown(wanted).unwrap().name, wanted.first_name);
        }
        untouched.assert_same(&node.foreign());
        if kind.network.has_network_manager() {
            // It had them before, tried to get a lease for them, and does so again.
            nics.iter().for_each(|wanted| node.until_managed(wanted));
        } else {
            before.assert_same(&node.everything());
        }
    }
}
