//! What becomes of a change when nobody is left who could undo it, and of one that cuts the node off.

use serde_json::Value;

use crate::kinds::Kind;
use crate::node::{AGENT, Node, addresses_of};
use crate::wanted::Wanted;

/// Where the agent puts what undoes its changes.
const PROGRAM: &str = "/var/lib/multinic/bin/multinic-agent";
const JOURNAL: &str = "/var/lib/multinic/journal";
/// A default route of last resort, whose gateway is not in the network of the NIC that it is reached by.
const GATEWAY: &str = "10.60.0.1";

/// The agent dies in the middle of a change, and the image that it came from is gone.
pub fn a_node_goes_back_by_itself_when_its_agent_is_dead_and_gone(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let before = node.foreign();
    let [other, mut changed, new] = [Wanted::new(9, 19), Wanted::new(0, 10), Wanted::new(1, 11)];
    node.start_agent();
    for wanted in [&other, &changed] {
        node.attach(wanted);
        node.until_configured(wanted);
    }
    node.stop_agent();
    let mut kept = node.watch();
    let old = changed.clone();
    changed.addresses = vec!["10.50.0.110/24".parse().unwrap(), "fd00:50::110/64".parse().unwrap()];
    changed.mtu = 1400;
    node.publish(&changed);
    if kind.network.has_network_manager() {
        // By NetworkManager's checkpoint alone, which knows nothing of files of the next boot.
        die_at(&node, "manager.agrees");
        assert!(node.kernel_fault(&old).is_some(), "it died too early");
        std::fs::remove_file(node.guest.path(PROGRAM)).unwrap();
        node.until("the addresses of before, by the checkpoint", || {
            let shown = node.shown(&old);
            let addresses = shown.as_ref().map(|shown| shown.addresses.clone()).unwrap_or_default();
            let back = old.addresses.iter().all(|address| addresses.contains(&address.to_string()));
            (!back).then(|| format!("{shown:?}"))
        });
        // The next start of an agent does the rest, and goes on.
        node.start_agent();
        node.until_configured(&changed);
        node.stop_agent();
        node.publish(&old);
        node.start_agent();
        node.until_configured(&old);
        node.stop_agent();
        node.publish(&changed);
    }
    die_at(&node, "step.write_file");
    assert!(node.kernel_fault(&old).is_some() || node.file_fault(&old).is_some(), "it died too early");
    remove_image(&node);
    until_undone(&node);
    node.until("the addresses of before", || node.kernel_fault(&old).or_else(|| node.file_fault(&old)));
    assert_eq!(undone(&node, &changed), 1);
    restore_image(&node);
    die_at(&node, "step.write_file");
    until_undone(&node);
    assert_eq!(undone(&node, &changed), 2);
    node.publish(&old);

    // The same with a NIC that was never configured.
    node.plug(&new);
    node.publish(&new);
    die_at(&node, "step.write_file");
    remove_image(&node);
    until_undone(&node);
    node.until("the name of before", || {
        let shown = node.shown(&new);
        (shown.as_ref().map(|shown| &shown.name) != Some(&new.first_name)).then(|| format!("{shown:?}"))
    });
    assert_eq!(node.left_file(&new), None);
    restore_image(&node);
    node.start_agent();
    node.until_configured(&new);
    node.until_configured(&old);
    let units =
        node.guest.run("systemctl", &["list-units", "--all", "--no-legend", "multinic-undo*"]).unwrap();
    assert_eq!(units.trim(), "", "what was armed is left over");
    kept.assert_keeps(&addresses_of(&[&other]));
    before.assert_same(&node.foreign());
}

/// Starts an agent that dies there.
fn die_at(node: &Node, point: &str) {
    node.start_agent_with(&format!("MULTINIC_FAULT={point}=kill\nSAFE_APPLY_TIMEOUT=30s\n"));
    node.until_agent_ends();
    assert_ne!(std::fs::read_dir(node.guest.path(JOURNAL)).unwrap().count(), 0, "{}", node.tell());
}

/// There is nothing any more where the agent's program was.
fn remove_image(node: &Node) {
    node.guest.run("mount", &["--bind", "/dev/null", AGENT]).unwrap();
}

fn restore_image(node: &Node) {
    node.guest.run("umount", &[AGENT]).unwrap();
}

/// How often in a row the node undid a change to a NIC because the agent had died.
fn undone(node: &Node, wanted: &Wanted) -> u64 {
    let state = node.guest.read("/var/lib/multinic/state.json").unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let failed = &state["failures"]["nics"][wanted.mac.to_string()];
    assert!(failed["undone"] == true && failed["target"]["mtu"] == wanted.mtu, "{state:#}");
    failed["count"].as_u64().unwrap()
}

pub fn until_undone(node: &Node) {
    node.until("the node to go back by itself", || {
        let left = std::fs::read_dir(node.guest.path(JOURNAL)).unwrap().count();
        (left != 0).then(|| {
            let arguments =
                ["--no-pager", "--lines=40", "--unit=multinic-undo.service", "--unit=multinic-undo.timer"];
            node.guest.run("journalctl", &arguments).unwrap_or_else(|error| error.to_string())
        })
    });
}

/// Nobody saw beforehand what it would do: the gateway is in no network of any link.
pub fn a_change_that_cuts_the_node_off_is_undone(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let run = |words: &str| node.guest.run("ip", &words.split(' ').collect::<Vec<_>>()).unwrap();
    run(&format!("route add default via {GATEWAY} dev eth0 onlink metric 4000 proto 12"));
    run(&format!("neighbour replace {GATEWAY} dev eth0 lladdr 02:00:00:00:00:60 nud permanent"));
    let mut wanted = Wanted { addresses: vec!["10.60.0.7/24".parse().unwrap()], ..Wanted::new(0, 10) };
    node.plug(&wanted);
    if kind.network.has_network_manager() {
        node.until_managed(&wanted);
    }
    let before = node.foreign();
    let plugged = node.shown(&wanted).unwrap();
    node.publish(&wanted);
    node.start_agent_with("SAFE_APPLY_TIMEOUT=30s\n");
    let said = "is not reached by its own link any more; all of it works again; rolled back";
    node.until("a change that is undone", || {
        (!node.agent_log().contains(said)).then(|| "not yet".to_owned())
    });
    node.until("the NIC of before", || {
        let shown = node.shown(&wanted);
        let file = node.left_file(&wanted);
        (shown.as_ref() != Some(&plugged) || file.is_some()).then(|| format!("{shown:?}, {file:?}"))
    });
    before.assert_same(&node.foreign());
    // Another content is tried at once.
    wanted.addresses = Wanted::new(0, 10).addresses;
    node.publish(&wanted);
    node.until_configured(&wanted);
    before.assert_same(&node.foreign());
}

pub fn nothing_is_changed_where_nothing_could_be_undone(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let wanted = Wanted::new(0, 10);
    node.guest.run("mkdir", &["/mnt/noexec"]).unwrap();
    node.guest.run("mount", &["-t", "tmpfs", "-o", "noexec", "none", "/mnt/noexec"]).unwrap();
    node.plug(&wanted);
    let first = node.shown(&wanted).unwrap();
    node.publish(&wanted);
    let elsewhere = "UNDO_PROGRAM=/mnt/noexec/bin/agent\n";
    node.start_agent_with(elsewhere);
    if kind.network.has_network_manager() {
        // Its own checkpoint does, as soon as it has the NIC.
        return node.until_configured(&wanted);
    }
    node.until("a refusal", || {
        let refused = node.agent_log().contains("mounted noexec: name another place by UNDO_PROGRAM");
        (!refused).then(|| "not yet".to_owned())
    });
    assert_eq!(node.shown(&wanted), Some(first));
    assert_eq!(node.left_file(&wanted), None);
    node.stop_agent();
    node.start_agent_with(&format!("{elsewhere}ALLOW_UNARMED=true\n"));
    node.until("a NIC without a guard", || node.kernel_fault(&wanted).or_else(|| node.file_fault(&wanted)));
}
