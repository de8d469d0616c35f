//! A node with things on it that are not ours, and an oracle around every test.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipnet::IpNet;
use multinic_core::desired::{DesiredNic, EntryId, Reported};
use multinic_core::node::observed::{Link, Observed};
use multinic_core::node::{Change, NodePlan, plan};
use multinic_core::{Addresses, InterfaceOptions, MacAddr, Mtu, Slot};
use multinic_host::backend::Backend;
use multinic_host::{ApplyError, CheckWith, Host, Options};
use multinic_testbed::node::{ForeignState, NetNs, NetlinkWatch, NewRoute, Switch};

pub const NIC: &str = "fa:16:3e:00:00:01";
pub const OTHER_NIC: &str = "fa:16:3e:00:00:02";
pub const FOREIGN: &str = "fa:16:3e:ff:ff:01";

pub fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A NIC with options.
pub fn nic_with(options: &str, nic: DesiredNic) -> DesiredNic {
    let options: InterfaceOptions = serde_json::from_str(options).unwrap();
    options.check_for(&nic.addresses).unwrap();
    DesiredNic { options, ..nic }
}

/// A NIC as a source would have it.
pub fn nic(mac_address: &str, slot: i64, addresses: &[&str], mtu: i64) -> DesiredNic {
    DesiredNic {
        entry: EntryId(1),
        revision: 1,
        mac: mac(mac_address),
        slot: Some(Slot::new(slot).unwrap()),
        port: None,
        addresses: Addresses::parse(addresses.iter().copied()).unwrap(),
        mtu: Mtu::new(mtu).unwrap(),
        options: InterfaceOptions::default(),
        reported: Reported::default(),
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A file on the node that says which backend it has, for programs that are started with its root alone.
const BACKEND: &str = "etc/backend-of-the-test";

pub fn options(root: &Path) -> Options {
    let backend = fs::read_to_string(root.join(BACKEND))
        .map_or(Backend::Netplan, |name| Backend::of_name(&name).unwrap());
    Options { check: CheckWith::Nobody, backend: Some(backend), ..Options::new(root) }
}

pub fn plan_of(host: &Host, observed: &Observed, wanted: &[DesiredNic], releases: &[MacAddr]) -> NodePlan {
    let releases: BTreeSet<MacAddr> = releases.iter().copied().collect();
    plan(wanted, &releases, host.owned(), observed, 10)
}

/// Makes one pass.
pub async fn pass(
    host: &mut Host,
    wanted: &[DesiredNic],
    releases: &[MacAddr],
) -> Vec<(Change, Result<(), ApplyError>)> {
    let observed = host.observe().await.unwrap();
    let mut done = Vec::new();
    for change in plan_of(host, &observed, wanted, releases).changes {
        let result = host.apply(&change).await;
        done.push((change, result));
    }
    done
}

pub struct World {
    pub node: NetNs,
    pub switch: Switch,
    pub root: tempfile::TempDir,
}

impl World {
    /// Runs a test on a node that has a life of its own, which nothing may disturb.
    pub fn with(test: impl FnOnce(&World)) {
        let world = Self::new();
        let ours = [mac(NIC), mac(OTHER_NIC)];
        let before = ForeignState::capture(&world.node, world.root.path(), &ours).unwrap();
        let mut watch = NetlinkWatch::start(&world.node, &ours).unwrap();
        test(&world);
        watch.assert_silent();
        before.assert_same(&ForeignState::capture(&world.node, world.root.path(), &ours).unwrap());
    }

    /// The same with another backend.
    pub fn with_backend(backend: Backend, test: impl FnOnce(&World)) {
        Self::with(|world| {
            world.write(BACKEND, backend.name(), 0o644);
            test(world);
            fs::remove_file(world.root.path().join(BACKEND)).unwrap();
        });
    }

    /// For a test that changes itself what is not ours, and only looks at it.
    pub fn unwatched(test: impl FnOnce(&World)) {
        test(&Self::new());
    }

    fn new() -> Self {
        let (node, switch) = (NetNs::new("node").unwrap(), Switch::new().unwrap());
        // Duplicate address detection would make every test a second longer.
        node.set_sysctl("ipv6/conf/default/dad_transmits", "0").unwrap();
        switch.plug(&node, mac(FOREIGN), "ens3", 1500, "management").unwrap();
        node.set_up("ens3").unwrap();
        node.add_address("ens3", net("198.51.100.5/24"), Some(3600)).unwrap();
        node.add_address("ens3", net("2001:db8:f::5/64"), None).unwrap();
        let gateway: IpAddr = "198.51.100.1".parse().unwrap();
        let route = |to, gateway, protocol: u8, table| NewRoute {
            link: "ens3",
            to: net(to),
            gateway,
            protocol: protocol.into(),
            table,
            metric: 50,
        };
        node.add_route(route("0.0.0.0/0", Some(gateway), 16, 254)).unwrap();
        node.add_route(route("203.0.113.0/24", Some(gateway), 4, 254)).unwrap();
        node.add_route(route("203.0.113.0/24", Some(gateway), 4, 100)).unwrap();
        node.add_route(route("::/0", Some("2001:db8:f::1".parse().unwrap()), 4, 254)).unwrap();
        node.add_altname("ens3", "enp0s3").unwrap();
        node.add_bridge("cni0").unwrap();
        node.add_macvlan("mv0", "ens3", &[0xfa, 0x16, 0x3e, 0xff, 0xff, 2]).unwrap();
        let root = tempfile::tempdir().unwrap();
        let world = Self { node, switch, root };
        world.write("etc/netplan/50-cloud-init.yaml", "network: {version: 2}\n", 0o600);
        world.write("etc/hostname", "node\n", 0o644);
        // An older program's, for a NIC that nobody wants of us.
        let foreign =
            "network:\n  ethernets:\n    multinic9:\n      match: {macaddress: \"fa:16:3e:ff:ff:09\"}\n";
        world.write("etc/netplan/99-multinic9.yaml", foreign, 0o644);
        world
    }

    pub fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.path().join(path)).ok()
    }

    pub fn plug(&self, mac_address: &str, name: &str) -> u32 {
        self.switch.plug(&self.node, mac(mac_address), name, 1500, "data").unwrap()
    }

    /// Runs something on the node, as the agent would.
    pub fn host<T: Send>(&self, work: impl AsyncFnOnce(&mut Host) -> T + Send) -> T {
        // A program that another test is about to start has the lock too, until it is that program.
        let access = multinic_host::Access::WriteInTurn;
        self.host_with(Options { access, ..options(self.root.path()) }, work)
    }

    pub fn host_with<T: Send>(&self, options: Options, work: impl AsyncFnOnce(&mut Host) -> T + Send) -> T {
        let run = || {
            block_on(async {
                let mut host = Host::open(options).unwrap();
                work(&mut host).await
            })
        };
        self.node.run(run).unwrap()
    }

    /// Makes passes until nothing is left to be done, and checks that this is soon.
    pub fn converge(&self, wanted: &[DesiredNic], releases: &[MacAddr]) {
        self.host(async |host| {
            for (change, result) in pass(host, wanted, releases).await {
                result.unwrap_or_else(|error| panic!("{change:?}: {error}"));
            }
            let observed = host.observe().await.unwrap();
            let left = plan_of(host, &observed, wanted, releases);
            assert!(left.changes.is_empty(), "{left:?}");
            assert!(left.refused.is_empty(), "{left:?}");
            assert_eq!(left.settled.len(), wanted.len(), "{left:?}");
        });
    }

    pub fn observed(&self) -> Observed {
        let options = Options { access: multinic_host::Access::Read, ..options(self.root.path()) };
        self.host_with(options, async |host| host.observe().await.unwrap())
    }

    pub fn link(&self, mac_address: &str) -> Link {
        let wanted = mac(mac_address);
        let found = self.observed().links.into_iter().find(|link| link.mac == Some(wanted) && !link.stacked);
        found.unwrap()
    }

    /// The addresses of a NIC that are not link-local, each with an `~` if it has a lifetime.
    pub fn addresses(&self, mac_address: &str) -> Vec<String> {
        let link = self.link(mac_address);
        let observed = self.observed();
        let addresses = observed.addresses_of(link.index).filter(|address| !address.link_local);
        let mut texts: Vec<String> = addresses
            .map(|address| format!("{}{}", address.net, if address.dynamic { "~" } else { "" }))
            .collect();
        texts.sort();
        texts
    }

    /// What `ip` says on the node, or does to it.
    pub fn ip(&self, arguments: &str) -> String {
        let output = self.node.command("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a change may touch: the links that are ours with their addresses and routes, the files, and what is owned.
    pub fn ours(&self) -> String {
        let observed = self.observed();
        // The kernel makes an address of it when there is a carrier, which is when it is.
        let link_local = net("fe80::/10");
        let mut text = String::new();
        for wanted in [mac(NIC), mac(OTHER_NIC)] {
            for link in observed.links.iter().filter(|link| link.mac == Some(wanted) && !link.stacked) {
                text += &format!(
                    "{} {wanted} mtu {} up {} altnames {:?} {:?}\n",
                    link.name, link.mtu, link.up, link.altnames, link.settings
                );
                let mut lines: Vec<String> = observed
                    .addresses_of(link.index)
                    .filter(|address| !link_local.contains(&address.net))
                    .map(|address| format!("  {} dynamic {}\n", address.net, address.dynamic))
                    .collect();
                let routes = observed.routes_of(link.index).chain(observed.other_tables_of(link.index));
                lines.extend(routes.filter(|route| !link_local.contains(&route.destination)).map(|route| {
                    format!(
                        "  to {} by {:?} in {} {:?}\n",
                        route.destination, route.gateway, route.table, route.origin
                    )
                }));
                lines.sort();
                text += &lines.concat();
            }
        }
        for rule in observed.rules.iter().filter(|rule| rule.from.is_some()) {
            text += &format!("{rule:?}\n");
        }
        for file in &observed.files {
            for (_, path) in multinic_host::backend::places::of(file.slot.interface()) {
                if let Some(content) = self.read(&path.to_string_lossy()) {
                    text += &format!("{}\n{content}", path.display());
                }
            }
        }
        let options = Options { access: multinic_host::Access::Read, ..options(self.root.path()) };
        let owned = self.host_with(options, async |host| host.owned().clone());
        text + &format!("{owned:#?}\n")
    }

    pub fn journal(&self) -> Vec<String> {
        let folder = self.root.path().join("var/lib/multinic/journal");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn backups(&self) -> Vec<String> {
        let folder = self.root.path().join("var/lib/multinic/backups");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}
