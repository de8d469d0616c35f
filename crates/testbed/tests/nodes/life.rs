//! A NIC's life: it is plugged, changed, spoilt by others, and taken away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::kinds::Kind;
use crate::node::Node;
use crate::wanted::Wanted;

pub fn nics_come_change_drift_and_go(kind: &'static Kind) {
    let mut node = Node::boot(kind);
    let before = node.foreign();
    node.start_agent();
    let [mut changed, second] = [Wanted::new(0, 10), Wanted::new(1, 11)];
    node.attach(&changed);
    node.until_configured(&changed);
    // This one is there before anybody says what it is for.
    node.plug(&second);
    node.publish(&second);
    node.until_configured(&second);

    changed.addresses = vec!["10.50.0.20/25".parse().unwrap(), "fd00:50::20/64".parse().unwrap()];
    changed.mtu = 1400;
    node.publish(&changed);
    node.until_configured(&changed);
    node.until_configured(&second);

    spoil_and_see_it_repaired(&node, &changed);
    swap_names_and_see_each_get_its_own(&node, [&changed, &second]);
    before.assert_same(&node.foreign());

    let mut kept = node.watch();
    // The port is detached: first the cloud says so, then the hypervisor pulls the NIC.
    node.source.remove(node.name(), &changed);
    node.until_released(&changed);
    node.guest.unplug(changed.mac).unwrap();
    kept.assert_keeps(&crate::node::addresses_of(&[&second]));
    // The other way round.
    node.guest.unplug(second.mac).unwrap();
    node.source.remove(node.name(), &second);
    node.until_released(&second);
    before.assert_same(&node.foreign());
}

/// Several acts of others one after the other make the agent wait longer before each repair. So that this stays short, the
/// agent is started anew before each.
fn spoil_and_see_it_repaired(node: &Node, wanted: &Wanted) {
    let name = wanted.name().to_string();
    let [address, other_address] = ["10.50.0.20/25", "10.50.0.99/24"];
    let acts: [(&str, &[&[&str]]); 6] = [
        ("address", &[&["address", "del", address, "dev", &name]]),
        (
            "prefix",
            &[&["address", "del", address, "dev", &name], &["address", "add", "10.50.0.20/24", "dev", &name]],
        ),
        ("MTU", &[&["link", "set", &name, "mtu", "1300"]]),
        ("down", &[&["link", "set", &name, "down"]]),
        ("name", &[&["link", "set", &name, "down"], &["link", "set", &name, "name", "stolen0"]]),
        (
            "more",
            &[&["address", "add", other_address, "dev", &name], &["address", "del", address, "dev", &name]],
        ),
    ];
    let _ = acts.map(|(what, commands)| {
        node.stop_agent();
        node.start_agent();
        for command in commands {
            node.guest.run("ip", command).unwrap();
        }
        eprintln!("{}: spoilt: {what}", node.name());
        if what == "more" {
            node.guest.run("ip", &["address", "del", other_address, "dev", &name]).unwrap();
        }
        node.until_configured(wanted);
    });
    type Act = fn(&std::path::Path);
    let acts: [(&str, Act); 3] = [
        ("content", |path| fs::write(path, "# gone\n").unwrap()),
        ("mode", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()),
        ("file", |path| fs::remove_file(path).unwrap()),
    ];
    for file in node.kind.files(wanted.slot) {
        let path = node.guest.path(&file);
        let mode = || fs::metadata(&path).map(|found| found.permissions().mode() & 0o777).ok();
        let right = mode();
        for (what, act) in acts {
            node.stop_agent();
            node.start_agent();
            act(&path);
            eprintln!("{}: spoilt: {what} of {file}", node.name());
            node.until_configured(wanted);
            node.until("the mode of a file", || (mode() != right).then(|| format!("{:?}", mode())));
        }
    }
}

fn swap_names_and_see_each_get_its_own(node: &Node, nics: [&Wanted; 2]) {
    swap_names(node, nics);
    node.start_agent();
    nics.iter().for_each(|wanted| node.until_configured(wanted));
}

/// While no agent looks: one that did would take away the name that is on its way.
pub fn swap_names(node: &Node, nics: [&Wanted; 2]) {
    node.stop_agent();
    let [first, second] = nics.map(|wanted| wanted.name().to_string());
    for (from, to) in [(first.as_str(), "aside0"), (&second, &first), ("aside0", &second)] {
        node.guest.run("ip", &["link", "set", from, "down"]).unwrap();
        node.guest.run("ip", &["link", "set", from, "name", to]).unwrap();
    }
    eprintln!("{}: spoilt: names swapped", node.name());
}
