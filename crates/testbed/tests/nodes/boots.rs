//! What a node has before any agent runs.

use crate::kinds::Kind;
use crate::node::{Node, addresses_of};
use crate::wanted::Wanted;

pub fn a_reboot_brings_names_addresses_and_mtu_back(kind: &'static Kind) {
    comes_back(kind, |node| node.guest.reboot().unwrap());
}

pub fn a_power_cut_brings_them_back_too(kind: &'static Kind) {
    comes_back(kind, |node| node.guest.reset().unwrap());
}

/// Somebody's configuration wants every NIC that the kernel calls `en*` to have a lease. Slot 9 is the one whose files sort
/// behind most others.
fn comes_back(kind: &'static Kind, boot: impl FnOnce(&mut Node)) {
    let catch_all: Vec<_> = kind.catch_all().into_iter().collect();
    let mut node = Node::boot_with(kind, &catch_all);
    node.start_agent();
    let nics = [Wanted::new(0, 10), Wanted::new(9, 19)];
    for wanted in &nics {
        node.attach(wanted);
        node.until_configured(wanted);
    }
    let before = node.lasting();
    boot(&mut node);
    node.add_what_others_have();
    for wanted in &nics {
        node.until_booted_with(wanted);
    }
    before.assert_same(&node.lasting());
    // The agent finds nothing to do.
    let mut kept = node.watch();
    node.start_agent();
    nics.iter().for_each(|wanted| node.until_configured(wanted));
    kept.assert_keeps(&addresses_of(&nics.each_ref()));
    before.assert_same(&node.lasting());
}
