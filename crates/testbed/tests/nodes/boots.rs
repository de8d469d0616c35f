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

/// networkd has in mind what it read at the boot, or at its last start, and sets that again when the link comes back.
pub fn what_a_boot_made_goes_for_good_once_something_else_is_asked_for(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    node.start_agent();
    let mut wanted = Wanted::new(0, 10);
    node.attach(&wanted);
    node.until_configured(&wanted);
    node.guest.reboot().unwrap();
    node.until_booted_with(&wanted);
    node.start_agent();
    node.until_configured(&wanted);
    wanted.addresses = vec!["10.50.0.20/25".parse().unwrap(), "fd00:50::20/64".parse().unwrap()];
    wanted.mtu = 1400;
    node.publish(&wanted);
    node.until_configured(&wanted);
    let untold = || node.agent_log().contains("it has multinic0 by ");
    if node.kind.is_not_told() {
        node.until("word of what networkd has", || (!untold()).then(|| "not yet".to_owned()));
    }

    let switch = node.guest.switch().clone();
    switch.set_carrier(wanted.mac, false).unwrap();
    node.until_carrier(&wanted, false);
    switch.set_carrier(wanted.mac, true).unwrap();
    node.until_carrier(&wanted, true);
    node.until_configured(&wanted);
    node.restart_manager();
    node.until_carrier(&wanted, true);
    node.until_configured(&wanted);
    assert_eq!(untold(), node.kind.is_not_told(), "{}", node.agent_log());
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
    node.set_again_what_others_lost();
    let before = node.lasting();
    boot(&mut node);
    for wanted in &nics {
        node.until_booted_with(wanted);
    }
    node.add_what_others_have();
    before.assert_same(&node.lasting());
    // The agent finds nothing to do.
    let mut kept = node.watch();
    node.start_agent();
    nics.iter().for_each(|wanted| node.until_configured(wanted));
    kept.assert_keeps(&addresses_of(&nics.each_ref()));
    before.assert_same(&node.lasting());
}
