//! Many nodes at once.

use std::io::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use multinic_testbed::guest::Rootfs;
use multinic_testbed::node::Switch;

use crate::kinds::{BOOKWORM_NETPLAN, Kind, TRIXIE_NETPLAN};
use crate::node::Node;
use crate::source::Source;
use crate::wanted::Wanted;

const KINDS: [&Kind; 2] = [&BOOKWORM_NETPLAN, &TRIXIE_NETPLAN];

#[test]
#[ignore = "needs root and builds a file system: make test-nodes"]
fn ten_nodes_have_their_nics_from_one_configuration() {
    if !Rootfs::supported() {
        return;
    }
    let switch = Arc::new(Switch::new().unwrap());
    let source = Arc::new(Source::new());
    let kinds = KINDS.iter().copied().cycle();
    let mut nodes: Vec<Node> =
        (1..=10).zip(kinds).map(|(number, kind)| Node::off(kind, number, &switch, &source, &[])).collect();
    let begun = Instant::now();
    thread::scope(|scope| nodes.iter_mut().for_each(|node| drop(scope.spawn(|| node.guest.boot().unwrap()))));
    let booted = begun.elapsed();

    let before: Vec<_> = nodes
        .iter()
        .map(|node| {
            node.add_what_others_have();
            node.start_agent();
            node.foreign()
        })
        .collect();
    let nics: Vec<[Wanted; 2]> = (0..)
        .map(|node: u8| [0, 1].map(|slot| Wanted::new(slot, 10 + 2 * node + slot)))
        .take(nodes.len())
        .collect();
    let begun = Instant::now();
    for (node, nics) in nodes.iter_mut().zip(&nics) {
        nics.iter().for_each(|wanted| node.plug(wanted));
    }
    let plugged = begun.elapsed();
    let names: Vec<String> = nodes.iter().map(|node| node.name().to_owned()).collect();
    let published =
        names.iter().zip(&nics).flat_map(|(name, nics)| nics.iter().map(move |nic| (name.as_str(), nic)));
    let begun = Instant::now();
    source.publish(published);
    for (node, nics) in nodes.iter().zip(&nics) {
        nics.iter().for_each(|wanted| node.until_configured(wanted));
    }
    // Not through the test harness, which hides what a passing test prints.
    let line = format!(
        "10 nodes: booted in {booted:.1?}, 20 NICs plugged in {plugged:.1?}, all verified {:.1?} after their publication\n",
        begun.elapsed()
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    let ping = |from: &Node, to: &Wanted| {
        from.guest.run("ping", &["-c", "1", "-W", "10", &to.addresses[0].addr().to_string()]).unwrap();
    };
    ping(&nodes[0], &nics[9][1]);
    ping(&nodes[9], &nics[0][0]);
    for (node, before) in nodes.iter().zip(before) {
        // Captured before the NICs were ours.
        before.assert_same(&node.foreign());
    }
}
