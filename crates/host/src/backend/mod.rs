//! What makes a NIC the same at the next boot: files that the node's network manager reads. What is live is made by
//! rtnetlink; a manager is at most told afterwards (see [`crate::manager`]).
//!
//! * [`Backend`]: the five ways, side by side; each renders a NIC as one file or several.
//! * [`places`]: where such files are and what they are called, ours and those of the older programs.
//! * [`held`]: what the files on disk say.
//! * [`detect`]: which of the five a node has.

use std::path::PathBuf;

use ipnet::IpNet;
use multinic_core::node::NicTarget;
use multinic_core::{MacAddr, Mtu, NicOptions, Vlan};

pub mod detect;
pub mod held;
mod ifcfg;
pub(crate) mod ini;
mod keyfile;
mod link;
pub mod netplan;
mod networkd;
mod options;
pub mod places;
pub(crate) mod shell;
mod udev_rule;
mod wicked;

use places::Kind;

/// The first line of every file.
const HEADER: &str = "# managed by MultiNIC; what is changed here is set right again\n";

/// How a node keeps the configuration of its NICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// `/etc/netplan`: Ubuntu, Debian with netplan.
    Netplan,
    /// `/etc/systemd/network`: Debian, Flatcar and their like.
    Networkd,
    /// Keyfiles of NetworkManager: RHEL and its kin from 9 on, SLES 16.
    NetworkManager,
    /// `/etc/sysconfig/network-scripts`: RHEL and its kin up to 8.
    Ifcfg,
    /// `/etc/sysconfig/network`: SLES 15.
    Wicked,
}

/// A file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Where, below the node's root.
    pub path: PathBuf,
    /// The content.
    pub text: String,
    /// The permission bits.
    pub mode: u32,
}

/// What a file says of the interface in its name, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// The MAC address of the NIC that it is about.
    pub mac: Option<MacAddr>,
    /// The addresses that it gives.
    pub addresses: Vec<IpNet>,
    /// The MTU that it gives.
    pub mtu: Option<Mtu>,
    /// The options that it names.
    pub options: Option<NicOptions>,
}

impl Backend {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Netplan, Self::Networkd, Self::NetworkManager, Self::Ifcfg, Self::Wicked];

    /// The name in configuration, logs, status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netplan => "netplan",
            Self::Networkd => "networkd",
            Self::NetworkManager => "networkmanager",
            Self::Ifcfg => "ifcfg",
            Self::Wicked => "wicked",
        }
    }

    /// The backend of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// The profile by which NetworkManager has a VLAN.
    pub fn profile_of_vlan(self, vlan: Vlan) -> Option<PathBuf> {
        match self {
            Self::NetworkManager => Some(Kind::Keyfile.path_of_vlan(vlan)),
            Self::Ifcfg => Some(Kind::Ifcfg.path_of_vlan(vlan)),
            Self::Netplan | Self::Networkd | Self::Wicked => None,
        }
    }

    /// A NIC's files, with those of its VLAN. What reads them at boot first comes first.
    pub fn render(self, target: &NicTarget) -> Vec<Rendered> {
        let options = &target.options;
        let routes = target.routes();
        let has_routes = |ipv4| routes.iter().any(|route| route.destination.addr().is_ipv4() == ipv4);
        let vlan = target.vlan();
        let of_vlan = |kind, needed| (kind, vlan, needed && vlan.is_some());
        let of_either = |kind, needed| (kind, vlan, needed);
        let both = |kind| [(kind, None, true), of_vlan(kind, true)];
        let always = |kind| (kind, None, true);
        let sysctl = (Kind::Sysctl, None, !options.settings().is_empty());
        let kinds: Vec<(Kind, Option<Vlan>, bool)> = match self {
            // netplan has no word for an address without a route to its network. networkd takes the first file that is about
            // a link, and this one comes before the one that netplan generates.
            Self::Netplan => {
                vec![sysctl, of_either(Kind::Network, options.no_prefix_route), always(Kind::Netplan)]
            }
            Self::Networkd => {
                let [nic, vlan] = both(Kind::Network);
                vec![sysctl, always(Kind::Link), of_vlan(Kind::Netdev, true), vlan, nic]
            }
            Self::NetworkManager => {
                let [nic, vlan] = both(Kind::Keyfile);
                vec![sysctl, always(Kind::Link), vlan, nic]
            }
            Self::Ifcfg => {
                let [nic, vlan] = both(Kind::Ifcfg);
                let routes = [(Kind::Routes, true), (Kind::Routes6, false)];
                let [routes, routes6] = routes.map(|(kind, ipv4)| of_either(kind, has_routes(ipv4)));
                vec![sysctl, always(Kind::Link), routes, routes6, vlan, nic]
            }
            Self::Wicked => {
                let [nic, vlan] = both(Kind::Wicked);
                let [sysctl, sysctl_of_vlan] = both(Kind::WickedSysctl);
                vec![
                    always(Kind::Rule),
                    sysctl,
                    sysctl_of_vlan,
                    of_either(Kind::WickedRoutes, !routes.is_empty()),
                    of_either(Kind::WickedRules, options.source_routing.is_some()),
                    vlan,
                    nic,
                ]
            }
        };
        let file = |(kind, vlan, _): (Kind, Option<Vlan>, bool)| Rendered {
            path: vlan.map_or_else(|| kind.path(target.name), |vlan| kind.path_of_vlan(vlan)),
            text: kind.text(target, vlan),
            mode: kind.mode(),
        };
        kinds.into_iter().filter(|(_, _, needed)| *needed).map(file).collect()
    }
}

impl Kind {
    /// The text of a file about a NIC, or about the VLAN on it.
    fn text(self, target: &NicTarget, vlan: Option<Vlan>) -> String {
        match (self, vlan) {
            (Self::Netplan, _) => netplan::render(target),
            (Self::Link, _) => link::render(target),
            (Self::Network, None) => networkd::render(target),
            (Self::Network, Some(vlan)) => networkd::render_vlan(target, vlan),
            (Self::Netdev, vlan) => {
                vlan.map(|vlan| networkd::render_netdev(target, vlan)).unwrap_or_default()
            }
            (Self::Keyfile, vlan) => keyfile::render(target, vlan),
            (Self::Ifcfg, vlan) => ifcfg::render(target, vlan),
            (Self::Wicked, vlan) => wicked::render(target, vlan),
            (Self::WickedSysctl, vlan) => wicked::render_sysctl(target, vlan),
            (Self::WickedRoutes, _) => wicked::render_routes(target),
            (Self::WickedRules, _) => wicked::render_rules(target),
            (Self::Rule, _) => udev_rule::render(target),
            (Self::Sysctl, _) => options::sysctl(target),
            (Self::Routes, _) => ifcfg::render_routes(target, true),
            (Self::Routes6, _) => ifcfg::render_routes(target, false),
        }
    }
}

/// The UUID under which NetworkManager knows a NIC of ours: version 8 (RFC 9562, made by rules of one's own), with
/// `multinic`, the slot and the MAC in it, so that it is the same wherever and whenever the file is written.
pub fn uuid(target: &NicTarget) -> String {
    let mac = target.mac.to_string().replace(':', "");
    format!("6d756c74-696e-8963-80{:02x}-{mac}", target.name.slot().number())
}

/// That of the VLAN on a NIC of ours: its number is in it too.
pub fn uuid_of_vlan(target: &NicTarget, vlan: Vlan) -> String {
    let mac = target.mac.to_string().replace(':', "");
    format!("6d756c74-696e-8{:03x}-81{:02x}-{mac}", vlan.id.number(), vlan.interface.slot().number())
}

/// Whether a UUID is one of those.
pub fn is_ours(uuid: &str) -> bool {
    uuid.starts_with("6d756c74-696e-8")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use multinic_core::{Addresses, InterfaceOptions};

    use super::*;

    fn nic(name: &str, addresses: &[&str], mtu: i64) -> NicTarget {
        NicTarget {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: name.parse().unwrap(),
            addresses: Addresses::parse(addresses.iter().copied()).unwrap(),
            mtu: Mtu::new(mtu).unwrap(),
            options: NicOptions::default(),
        }
    }

    fn with(options: &str, nic: NicTarget) -> NicTarget {
        let options: InterfaceOptions = serde_json::from_str(options).unwrap();
        options.check_for(&nic.addresses).unwrap();
        NicTarget { options: options.resolve(nic.name.slot()), ..nic }
    }

    #[test]
    fn each_backend_writes_each_kind_of_nic() {
        let cases = [
            ("ipv4", nic("multinic0", &["192.0.2.10/24"], 1450)),
            ("ipv6", nic("multinic1", &["2001:db8::10/64"], 1500)),
            (
                "both_families",
                nic(
                    "multinic2",
                    &["2001:db8::10/64", "192.0.2.10/24", "198.51.100.7/31", "fd00::7/64"],
                    1500,
                ),
            ),
            ("no_address_and_an_mtu_without_ipv6", nic("multinic3", &[], 1000)),
            ("jumbo_frames", nic("multinic4", &["192.0.2.10/24"], 9000)),
            ("a_slot_of_two_digits", nic("multinic10", &[], 1500)),
            ("strict_arp_and_loose_rp_filter", with(r#"{"rpFilter": "loose"}"#, nic("multinic5", &[], 1500))),
            (
                "routes",
                with(
                    r#"{"strictArp": false, "routes": [{"to": "198.51.100.0/24", "via": "192.0.2.1"},
                        {"to": "203.0.113.0/24", "metric": 7}, {"to": "fd00::/8", "via": "fe80::1"}]}"#,
                    nic("multinic6", &["192.0.2.10/24", "2001:db8::10/64"], 1500),
                ),
            ),
            (
                "source_routing",
                with(
                    r#"{"strictArp": false, "sourceRouting": {"enabled": true},
                        "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "2001:db8::1"}]}"#,
                    nic("multinic7", &["192.0.2.10/24", "2001:db8::10/64"], 1500),
                ),
            ),
            (
                "no_prefix_route",
                with(
                    r#"{"noPrefixRoute": true, "sourceRouting": {"enabled": true, "tableBase": 300, "metric": 50}}"#,
                    nic("multinic12", &["192.0.2.10/24"], 1500),
                ),
            ),
            (
                "vlan",
                with(
                    r#"{"vlan": 100, "rpFilter": "loose"}"#,
                    nic("multinic0", &["192.0.2.10/24", "2001:db8::10/64"], 1450),
                ),
            ),
            (
                "vlan_without_ipv6",
                with(r#"{"vlan": 4094, "strictArp": false}"#, nic("multinic63", &["192.0.2.10/24"], 1000)),
            ),
            (
                "vlan_with_source_routing",
                with(
                    r#"{"vlan": 7, "sourceRouting": {"enabled": true},
                        "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "2001:db8::1"}]}"#,
                    nic("multinic8", &["192.0.2.10/24", "2001:db8::10/64"], 1500),
                ),
            ),
            (
                "vlan_with_no_prefix_route",
                with(
                    r#"{"vlan": 7, "noPrefixRoute": true, "sourceRouting": {"enabled": true}}"#,
                    nic("multinic9", &["192.0.2.10/24"], 9000),
                ),
            ),
        ];
        for backend in Backend::ALL {
            for (case, target) in &cases {
                let mut text = String::new();
                for file in backend.render(target) {
                    let _ = writeln!(text, "== {} {:o}\n{}", file.path.display(), file.mode, file.text);
                }
                insta::assert_snapshot!(format!("{}_{case}", backend.name()), text);
            }
        }
    }

    #[test]
    fn a_name_is_of_one_backend() {
        for backend in Backend::ALL {
            assert_eq!(Backend::of_name(backend.name()), Some(backend));
        }
        assert_eq!(Backend::of_name("ifupdown"), None);
    }
}
