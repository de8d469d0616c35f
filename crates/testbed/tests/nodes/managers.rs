//! What others do to the node's network manager.

use crate::kinds::Kind;
use crate::node::{Node, addresses_of};
use crate::router::Router;
use crate::wanted::Wanted;

pub fn nics_outlive_a_restart_of_their_manager(kind: &'static Kind) {
    let catch_all: Vec<_> = kind.catch_all().into_iter().collect();
    let mut node = Node::boot_with(kind, &catch_all);
    // Older ones drop routes of others over their own NICs. That is their doing, and done before ours begins.
    node.restart_manager();
    let before = node.foreign();
    node.start_agent();
    let nics = [Wanted::new(0, 10), Wanted::new(9, 19)];
    for wanted in &nics {
        node.attach(wanted);
        node.until_configured(wanted);
    }
    let mut kept = node.watch();
    // With an agent that could repair what is lost, and without.
    for _ in 0..2 {
        node.restart_manager();
        for wanted in &nics {
            node.until_configured(wanted);
        }
        before.assert_same(&node.foreign());
        node.stop_agent();
    }
    kept.assert_keeps(&addresses_of(&nics.each_ref()));
}

/// The manager gives every NIC a lease that nobody told it anything else about, and a server answers.
pub fn a_nic_with_a_lease_becomes_ours_and_the_nodes_own_never_does(kind: &'static Kind) {
    let catch_all: Vec<_> = kind.catch_all().into_iter().collect();
    let mut node = Node::boot_with(kind, &catch_all);
    let router = Router::start(&node);
    let nics = [Wanted::new(0, 10), Wanted::new(9, 19)];
    let [leased, plugged_later] = &nics;
    node.plug(leased);
    node.until("a lease", || {
        let shown = node.shown(leased);
        let has_lease =
            shown.as_ref().is_some_and(|shown| shown.addresses.iter().any(|one| Router::leased(one)));
        (!has_lease).then(|| format!("{shown:?}\n{}", router.tell()))
    });
    node.publish(leased);
    node.set_again_what_others_lost();
    let before = node.foreign();
    // With two default routes either may be the node's own, and nobody has said which: no guess is made.
    node.start_agent();
    node.until_in_use(leased.mac);
    before.assert_same(&node.foreign());
    node.stop_agent();
    // As its DaemonSet says it.
    node.start_agent_with(&format!("NODE_IP={}", node.own_address()));
    node.until_configured(leased);
    before.assert_same(&node.foreign());
    node.attach(plugged_later);
    node.until_configured(plugged_later);
    node.set_again_what_others_lost();

    // Whoever publishes the node's own NIC by mistake.
    let own = Wanted { mac: node.own_mac(), ..Wanted::new(3, 33) };
    node.publish(&own);
    node.until_in_use(own.mac);
    before.assert_same(&node.foreign());
    node.stop_agent();

    let before = node.lasting();
    node.guest.reboot().unwrap();
    for wanted in &nics {
        node.until_booted_with(wanted);
    }
    node.add_what_others_have();
    before.assert_same(&node.lasting());
}
