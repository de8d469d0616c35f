//! What on a node would harm it, or would harm our NICs, once NICs of ours are configured there: found before anything is
//! touched.
//!
//! [`examine`] is a function of what was seen; nothing here reads or changes anything.

use std::net::IpAddr;

use ipnet::IpNet;

use super::observed::{Found, Link, Observed};
use super::routing::{MAIN_TABLE, is_link_local};
use super::{NicTarget, Owned};
use crate::MacAddr;
use crate::options::ReversePath;

/// What was seen of a node beside its links, addresses and routes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// systemd-networkd, where it runs.
    pub networkd: Option<Networkd>,
    /// NetworkManager, where it runs.
    pub network_manager: Option<NetworkManager>,
    /// The policy rules that the kernel did not make itself, as `ip rule` shows them.
    pub rules: Vec<String>,
    /// What files of others say of NICs.
    pub claims: Vec<Claim>,
    /// `net.ipv4.conf.all.rp_filter`: the least that any link has of it.
    pub reverse_path_of_all: u32,
    /// How the kubelet was told of its node's address, where there is one.
    pub kubelet: Option<Kubelet>,
    /// Whether the kernel can make VLANs; none where nobody asked it.
    pub vlans: Option<bool>,
    /// Programs that the backend needs and that are not there, each with what it is needed for.
    pub missing: Vec<Missing>,
    /// What stands in the way of whoever is to be told of a change, or is to undo it.
    pub hindrances: Vec<Hindrance>,
}

/// What systemd-networkd does with what others made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Networkd {
    /// Whether it leaves routes of others alone (`ManageForeignRoutes=no`).
    pub keeps_routes: Setting,
    /// Whether it leaves policy rules of others alone (`ManageForeignRoutingPolicyRules=no`).
    pub keeps_rules: Setting,
}

/// How far a setting has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The running program has it.
    InEffect,
    /// A file has it that is newer than the running program.
    OnDisk,
    /// Nobody set it.
    Unset,
}

/// What NetworkManager does with a NIC that no profile claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkManager {
    /// It makes no profile of its own, for any NIC (`no-auto-default=*`).
    pub leaves_new_nics: bool,
}

/// What a file of somebody else says of NICs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The file, as the node knows it.
    pub path: String,
    /// Which NICs it means.
    pub means: Means,
    /// Whether it asks for addresses by DHCP.
    pub dhcp: bool,
}

/// Which NICs a file means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Those of this MAC.
    Mac(MacAddr),
    /// Those whose names match a pattern, such as `en*`; a whole name is one too.
    Names(String),
}

/// What the kubelet was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kubelet {
    /// A cloud controller manager says what the node's addresses are.
    pub external_cloud: bool,
    /// The address is given (`--node-ip`).
    pub node_ip: bool,
}

/// What is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What: a path.
    pub path: String,
    /// What for.
    pub needed_for: String,
}

/// What stands in the way of a change that is told to the node's managers and that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// Of what sort.
    pub kind: HindranceKind,
    /// What was found.
    pub found: String,
    /// Where: a path, a name on the bus.
    pub place: String,
    /// What does not work for it.
    pub needed_for: String,
    /// Whether no change is made at all for it.
    pub stops: bool,
}

/// What sort of thing stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HindranceKind {
    /// The node's system bus cannot be reached.
    BusUnreachable,
    /// Somebody on it does not let us.
    BusDenied,
    /// The program that undoes the change of a dead agent cannot be run.
    UndoProgram,
}

impl HindranceKind {
    fn code(self) -> &'static str {
        match self {
            Self::BusUnreachable => "BusUnreachable",
            Self::BusDenied => "BusDenied",
            Self::UndoProgram => "UndoProgram",
        }
    }

    fn mend(self) -> &'static str {
        match self {
            Self::BusUnreachable => {
                "have dbus run on the node, and mount its /run into the agent's pod; or set ALLOW_UNARMED, for a node without \
                 systemd"
            }
            Self::BusDenied => {
                "let root call it: look at the policies in /etc/dbus-1/system.d, at polkit, and at SELinux or AppArmor"
            }
            Self::UndoProgram => {
                "name a path on a file system that programs are run from, and that can be written, by UNDO_PROGRAM; or set \
                 ALLOW_UNARMED"
            }
        }
    }
}

/// The code of every finding that there is.
pub const CODES: [&str; 17] = [
    "DuplicateMac",
    "NetworkOverlap",
    "RouteOverlap",
    "TableInUse",
    "NoVlans",
    "ForeignRules",
    "ForeignRoutes",
    "ClaimedByFile",
    "CatchAll",
    "AutomaticProfile",
    "SharedSubnet",
    "StrictReversePath",
    "NodeAddressMayMove",
    "Missing",
    "BusUnreachable",
    "BusDenied",
    "UndoProgram",
];

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does no harm yet, or only under conditions: to be known.
    Warn,
    /// A NIC is not to be configured like that.
    Refuse,
}

impl Severity {
    /// As it is printed.
    pub fn label(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }
}

/// Something that would do harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A name for programs, such as `NetworkOverlap`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The NIC of ours that it is about, if it is about one.
    pub mac: Option<MacAddr>,
    /// What it is.
    pub what: String,
    /// Where: a file, a link, a setting.
    pub place: String,
    /// What to do.
    pub mend: String,
}

impl Finding {
    /// All of it in one line.
    pub fn sentence(&self) -> String {
        let Self { code, severity: _, mac: _, what, place, mend } = self;
        format!("{code}: {what} ({place}); {mend}")
    }
}

/// Everything that stands against, or beside, the NICs that a node is to have. The worst comes first.
pub fn examine(targets: &[NicTarget], owned: &Owned, observed: &Observed, survey: &Survey) -> Vec<Finding> {
    let node = Node { targets, owned, observed, survey };
    let mut findings = Vec::new();
    findings.extend(targets.iter().filter_map(|target| node.ambiguous(target)));
    findings.extend(targets.iter().flat_map(|target| node.overlaps(target)));
    findings.extend(targets.iter().flat_map(|target| node.route_overlaps(target)));
    findings.extend(targets.iter().filter_map(|target| node.table_in_use(target)));
    findings.extend(targets.iter().filter_map(|target| node.no_vlans(target)));
    findings.extend(node.foreign_state());
    findings.extend(node.claims());
    findings.extend(node.automatic_profiles());
    findings.extend(node.neighbours());
    findings.extend(node.node_address());
    findings.extend(node.missing());
    findings.extend(node.hindrances());
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

struct Node<'a> {
    targets: &'a [NicTarget],
    owned: &'a Owned,
    observed: &'a Observed,
    survey: &'a Survey,
}

impl Node<'_> {
    fn ambiguous(&self, target: &NicTarget) -> Option<Finding> {
        let Found::Several(links) = self.observed.find(target.mac) else { return None };
        Some(Finding {
            code: "DuplicateMac",
            severity: Severity::Refuse,
            mac: Some(target.mac),
            what: format!("several links have the MAC {}", target.mac),
            place: links.join(", "),
            mend: "give the others MACs of their own, or take them away".to_owned(),
        })
    }

    /// How bad it is that an address of a NIC is where it is. One that the NIC has is used, and was there first.
    fn severity_of(&self, target: &NicTarget, address: IpNet) -> Severity {
        let has = self.owned.get(&target.mac).is_some_and(|nic| nic.target.addresses.contains(address));
        if has { Severity::Warn } else { Severity::Refuse }
    }

    /// An address in a network that another link has, or around the node's own address: answers would leave by the wrong link.
    fn overlaps(&self, target: &NicTarget) -> Vec<Finding> {
        let mend = || {
            "use a subnet that the node is not in already, or take this one out of the OpenstackConfig"
                .to_owned()
        };
        let others = self.observed.links.iter().filter(|link| !self.is_ours(link));
        let taken = others.flat_map(|link| {
            let addresses = self.observed.addresses_of(link.index).filter(|address| !address.link_local);
            addresses.map(move |address| (link, address.net))
        });
        let found = taken.filter_map(|(link, net)| {
            let ours = target.addresses.iter().find(|ours| {
                ours.trunc().contains(&net.trunc().network()) || net.trunc().contains(&ours.trunc().network())
            })?;
            // A host route of its own, as CNIs and loopback services have them, is no network.
            (net.prefix_len() < net.max_prefix_len()).then(|| Finding {
                code: "NetworkOverlap",
                severity: self.severity_of(target, ours),
                mac: Some(target.mac),
                what: format!(
                    "{ours} of {} overlaps {net}, which the node has on {}",
                    target.name, link.name
                ),
                place: link.name.clone(),
                mend: mend(),
            })
        });
        let found: Vec<Finding> = found.collect();
        if !found.is_empty() {
            return found;
        }
        // A node's address may be alone in its network, or be nowhere on the node.
        let around = self.observed.lifelines.node_addresses.iter().filter_map(|own| {
            let ours = target.addresses.iter().find(|ours| ours.contains(own))?;
            Some(Finding {
                code: "NetworkOverlap",
                severity: self.severity_of(target, ours),
                mac: Some(target.mac),
                what: format!("{ours} of {} has the node's own address {own} in its network", target.name),
                place: own.to_string(),
                mend: mend(),
            })
        });
        around.collect()
    }

    /// A route of the main table that takes what another link has, or all around the node's own address. One that merely
    /// encloses a network of another link takes nothing of it: the longer prefix wins.
    fn route_overlaps(&self, target: &NicTarget) -> Vec<Finding> {
        let routes = target.routes();
        let in_main = routes.iter().filter(|route| route.table == MAIN_TABLE);
        let found = in_main.filter_map(|route| {
            let ours = route.destination;
            let others = self.networks_of_others();
            let (what, place) = match others.iter().find(|(_, net)| net.contains(&ours)) {
                Some((link, net)) => (format!("is within {net}, which the node has on {link}"), (*link).to_owned()),
                None => {
                    // A node's address may be alone in its network: its neighbours are reached by a router then.
                    let enclosed = |own: &IpAddr| others.iter().any(|(_, net)| net.contains(own));
                    let mut around = self.observed.lifelines.node_addresses.iter();
                    let own = around.find(|own| ours.contains(*own) && !enclosed(own))?;
                    (format!("has the node's own address {own} in it"), own.to_string())
                }
            };
            let before = self.owned.get(&target.mac).map(|nic| nic.target.routes()).unwrap_or_default();
            Some(Finding {
                code: "RouteOverlap",
                severity: if before.contains(route) { Severity::Warn } else { Severity::Refuse },
                mac: Some(target.mac),
                what: format!("the route to {ours} of {} {what}: it would take the node's own traffic", target.name),
                place,
                mend: "take it out of options.routes, or set options.sourceRouting.enabled, so that it is in a table of \
                       the interface's own"
                    .to_owned(),
            })
        });
        found.collect()
    }

    /// The networks that links of others lead to without a router, with the links' names.
    fn networks_of_others(&self) -> Vec<(&str, IpNet)> {
        let of_link = |link| {
            let addresses = self.observed.addresses_of(link).filter(|address| !address.link_local);
            let addresses = addresses.map(|address| address.net.trunc());
            let routes = self.observed.routes_of(link).filter(|route| route.gateway.is_none());
            let routes = routes.map(|route| route.destination).filter(|to| !is_link_local(*to));
            addresses.chain(routes)
        };
        let others = self.observed.links.iter().filter(|link| !self.is_ours(link));
        let found = others.flat_map(|link| of_link(link.index).map(|net| (link.name.as_str(), net)));
        found.filter(|(_, net)| net.prefix_len() > 0 && net.prefix_len() < net.max_prefix_len()).collect()
    }

    /// A table that is to be an interface's own and has routes over other links: they would be taken for its own.
    fn table_in_use(&self, target: &NicTarget) -> Option<Finding> {
        let table = target.options.source_routing?.table;
        let own: Vec<u32> = match self.observed.find(target.mac) {
            Found::One(link) => {
                let vlan = self.observed.ip_link(link, target);
                [Some(link), vlan].into_iter().flatten().map(|link| link.index).collect()
            }
            Found::None | Found::Several(_) => Vec::new(),
        };
        let routes = self.observed.other_tables.iter();
        let route = routes.filter(|route| route.table == table).find(|route| !own.contains(&route.link))?;
        let links = &self.observed.links;
        let link = links.iter().find(|link| link.index == route.link).map_or("?", |link| link.name.as_str());
        // One that has the table already was there first, and what it lost is put back.
        let before = self.owned.get(&target.mac).and_then(|nic| nic.target.options.source_routing);
        let has = before.is_some_and(|own| own.table == table);
        Some(Finding {
            code: "TableInUse",
            severity: if has { Severity::Warn } else { Severity::Refuse },
            mac: Some(target.mac),
            what: format!(
                "routing table {table}, which is to be that of {}, has a route to {} over {link}",
                target.name, route.destination
            ),
            place: format!("ip route show table {table}"),
            mend: "choose another options.sourceRouting.tableBase (NETWORK_ROUTING_TABLE_BASE)".to_owned(),
        })
    }

    /// A VLAN of a kernel that knows none.
    fn no_vlans(&self, target: &NicTarget) -> Option<Finding> {
        let vlan = target.vlan().filter(|_| self.survey.vlans == Some(false))?;
        Some(Finding {
            code: "NoVlans",
            severity: Severity::Refuse,
            mac: Some(target.mac),
            what: format!("this kernel knows no VLANs (IEEE 802.1Q), and {vlan} is to be one"),
            place: format!("options.vlan of {}", target.name),
            mend: "load its module (modprobe 8021q, and 8021q in a file of /etc/modules-load.d), or leave options.vlan \
                   out"
                .to_owned(),
        })
    }

    fn is_ours(&self, link: &Link) -> bool {
        let ours = |mac: MacAddr| {
            self.owned.contains_key(&mac) || self.targets.iter().any(|target| target.mac == mac)
        };
        // What others put on top of a NIC of ours may have its MAC.
        let owned = self.owned.values().map(|nic| &nic.target);
        let mut vlans = owned.chain(self.targets).filter_map(NicTarget::vlan).map(|vlan| vlan.to_string());
        if link.stacked {
            return link.vlan.is_some() && vlans.any(|vlan| vlan == link.name);
        }
        link.mac.is_some_and(ours) || link.permanent_mac.is_some_and(ours)
    }

    /// networkd drops the rules and routes of others as soon as it configures any NIC.
    fn foreign_state(&self) -> Vec<Finding> {
        let Some(networkd) = self.survey.networkd else { return Vec::new() };
        let finding = |code, what: String, setting: Setting, key: &str| {
            let (place, mend) = match setting {
                Setting::InEffect => return None,
                Setting::OnDisk => (
                    "systemd-networkd, which runs since before the file was written",
                    "restart systemd-networkd in a maintenance window: that drops them once more",
                ),
                Setting::Unset => (
                    "/etc/systemd/networkd.conf.d",
                    "install the drop-in that `multinic-agent doctor --print-dropin` prints",
                ),
            };
            Some(Finding {
                code,
                severity: Severity::Warn,
                mac: None,
                what: format!("{what} ({key} is not in effect)"),
                place: place.to_owned(),
                mend: mend.to_owned(),
            })
        };
        let rules = self.survey.rules.len();
        let foreign_rules = (rules > 0).then(|| {
            let what = format!(
                "systemd-networkd drops {rules} policy rule(s) of others, such as {:?}, when it configures any NIC",
                self.survey.rules.first().map(String::as_str).unwrap_or_default()
            );
            finding("ForeignRules", what, networkd.keeps_rules, "ManageForeignRoutingPolicyRules=no")
        });
        let what = "systemd-networkd drops routes of others when it configures a NIC".to_owned();
        let routes = finding("ForeignRoutes", what, networkd.keeps_routes, "ManageForeignRoutes=no");
        foreign_rules.flatten().into_iter().chain(routes).collect()
    }

    /// Files of others about the NICs that we are to configure.
    fn claims(&self) -> Vec<Finding> {
        let found = self.survey.claims.iter().filter_map(|claim| {
            let dhcp = if claim.dhcp { ", and asks for addresses by DHCP" } else { "" };
            match &claim.means {
                Means::Mac(mac) if self.targets.iter().any(|target| target.mac == *mac) => Some(Finding {
                    code: "ClaimedByFile",
                    // One that works is not to stay spoilt because of the next boot.
                    severity: if self.owned.contains_key(mac) { Severity::Warn } else { Severity::Refuse },
                    mac: Some(*mac),
                    what: format!("another file configures the NIC {mac}{dhcp}"),
                    place: claim.path.clone(),
                    mend: "take the NIC out of that file: at the next boot both would configure it"
                        .to_owned(),
                }),
                Means::Names(pattern) if claim.dhcp && pattern.contains(['*', '?', '[']) => Some(Finding {
                    code: "CatchAll",
                    severity: Severity::Warn,
                    mac: None,
                    what: format!(
                        "every NIC whose name matches {pattern} gets addresses by DHCP until it is named"
                    ),
                    place: claim.path.clone(),
                    mend: "name the node's own NICs there, by MAC or whole name".to_owned(),
                }),
                Means::Mac(_) | Means::Names(_) => None,
            }
        });
        found.collect()
    }

    fn automatic_profiles(&self) -> Option<Finding> {
        let manager = self.survey.network_manager.as_ref()?;
        (!manager.leaves_new_nics).then(|| Finding {
            code: "AutomaticProfile",
            severity: Severity::Warn,
            mac: None,
            what: "NetworkManager takes a new NIC by DHCP until its profile is there".to_owned(),
            place: "/etc/NetworkManager/conf.d".to_owned(),
            mend: "set no-auto-default=* in [main] there, and have NetworkManager read it (nmcli general reload)"
                .to_owned(),
        })
    }

    /// Two of our NICs in one subnet, or one in a part of the other's: the kernel answers for both on either.
    fn neighbours(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (index, one) in self.targets.iter().enumerate() {
            for other in self.targets.iter().skip(index + 1) {
                let shared = shared_networks(one, other);
                let Some((net, beside)) = shared.first() else { continue };
                if [one, other].iter().all(|target| target.options.source_routing.is_some()) {
                    continue;
                }
                let which = if net == beside {
                    format!("{} and {} are both in {net}", one.name, other.name)
                } else {
                    format!("{net} of {} and {beside} of {} overlap", one.name, other.name)
                };
                findings.push(Finding {
                    code: "SharedSubnet",
                    severity: Severity::Warn,
                    mac: Some(other.mac),
                    what: format!("{which}: without source routing, all answers leave by one of them"),
                    place: format!("{}, {}", one.name, other.name),
                    mend: "put them into different subnets, or set options.sourceRouting.enabled for both"
                        .to_owned(),
                });
                if shared.iter().any(|(net, _)| net.addr().is_ipv4()) {
                    findings.extend(
                        [one, other].into_iter().filter_map(|target| self.strict_reverse_path(target)),
                    );
                }
            }
        }
        findings
    }

    /// What comes in on a link whose answers leave by another one.
    fn strict_reverse_path(&self, target: &NicTarget) -> Option<Finding> {
        let link = target.ip_name();
        (self.reverse_path(target) == ReversePath::Strict.number()).then(|| Finding {
            code: "StrictReversePath",
            severity: Severity::Warn,
            mac: Some(target.mac),
            what: format!(
                "with rp_filter=1 the kernel drops what comes in on {link} from networks that it shares with another of our NICs, \
                 where that one has the answers"
            ),
            place: format!("net.ipv4.conf.all.rp_filter, net.ipv4.conf.{link}.rp_filter"),
            mend: "set options.rpFilter: loose (NETWORK_SET_RP_FILTER_LOOSE), or options.sourceRouting.enabled for both NICs"
                .to_owned(),
        })
    }

    /// What the kernel goes by on the link that has the addresses: the larger of what it has, or gets, and that of `all`
    /// (ip-sysctl.rst).
    fn reverse_path(&self, target: &NicTarget) -> u32 {
        let nic = match self.observed.find(target.mac) {
            Found::One(link) => self.observed.ip_link(link, target),
            Found::None | Found::Several(_) => None,
        };
        let has = nic.map_or(self.observed.default_settings, |link| link.settings).rp_filter;
        target.options.rp_filter.map_or(has, ReversePath::number).max(self.survey.reverse_path_of_all)
    }

    fn node_address(&self) -> Option<Finding> {
        let kubelet = self.survey.kubelet?;
        (kubelet.external_cloud && !kubelet.node_ip && !self.targets.is_empty()).then(|| Finding {
            code: "NodeAddressMayMove",
            severity: Severity::Warn,
            mac: None,
            what: "a cloud controller manager says what this node's InternalIP is, and may choose an address of a new NIC"
                .to_owned(),
            place: "the kubelet's arguments; cloud.conf of the cloud controller manager".to_owned(),
            mend: "set internal-network-name in [Networking] of cloud.conf, or --node-ip of the kubelet".to_owned(),
        })
    }

    fn missing(&self) -> impl Iterator<Item = Finding> {
        self.survey.missing.iter().map(|missing| Finding {
            code: "Missing",
            severity: Severity::Warn,
            mac: None,
            what: format!("{} is not there: {}", missing.path, missing.needed_for),
            place: missing.path.clone(),
            mend: "install it, or mount it into the agent's pod".to_owned(),
        })
    }

    fn hindrances(&self) -> impl Iterator<Item = Finding> {
        self.survey.hindrances.iter().map(|hindrance| {
            let Hindrance { kind, found, place, needed_for, stops } = hindrance;
            Finding {
                code: kind.code(),
                severity: if *stops { Severity::Refuse } else { Severity::Warn },
                mac: None,
                what: format!("{found}: {needed_for}"),
                place: place.clone(),
                mend: kind.mend().to_owned(),
            }
        })
    }
}

/// The networks of two NICs that are the same, or of which one is in the other.
fn shared_networks(one: &NicTarget, other: &NicTarget) -> Vec<(IpNet, IpNet)> {
    let overlap = |(a, b): &(IpNet, IpNet)| a.contains(b) || b.contains(a);
    let pairs = one
        .addresses
        .iter()
        .flat_map(|net| other.addresses.iter().map(move |beside| (net.trunc(), beside.trunc())));
    pairs.filter(overlap).collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test says what it expects by failing loudly"
    )]

    use super::super::observed::{Lifelines, LinkAddress, Route, RouteOrigin, Settings};
    use super::super::{Change, ChangeKind, NodePlan, OwnedNic, RefusalReason};
    use super::*;
    use crate::options::{NicRoute, SourceRouting};
    use crate::{Addresses, Mtu, NicOptions};

    const OURS: &str = "fa:16:3e:00:00:01";

    fn target(mac: &str, slot: u8, net: &str) -> NicTarget {
        NicTarget {
            mac: mac.parse().unwrap(),
            name: format!("multinic{slot}").parse().unwrap(),
            addresses: Addresses::parse([net]).unwrap(),
            mtu: Mtu::new(1450).unwrap(),
            options: NicOptions::default(),
        }
    }

    fn link(index: u32, name: &str, mac: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some(mac.parse().unwrap()),
            permanent_mac: None,
            mtu: 1500,
            up: true,
            master: None,
            stacked: false,
            lower: None,
            vlan: None,
            altnames: Vec::new(),
            settings: Settings::default(),
            accept_ra: None,
        }
    }

    /// A node with its own NIC, and one of ours that is not configured yet.
    fn node() -> Observed {
        let net: IpNet = "10.0.0.5/24".parse().unwrap();
        let address = LinkAddress {
            link: 2,
            net,
            dynamic: true,
            link_local: false,
            duplicate: false,
            tentative: false,
            no_prefix_route: false,
        };
        let links = vec![link(2, "eth0", "fa:16:3e:00:00:aa"), link(3, "eth1", OURS)];
        Observed { links, addresses: vec![address], ..Observed::default() }
    }

    fn codes(
        targets: &[NicTarget],
        observed: &Observed,
        survey: &Survey,
    ) -> Vec<(&'static str, &'static str)> {
        let findings = examine(targets, &Owned::new(), observed, survey);
        for finding in &findings {
            assert!(
                !finding.what.is_empty() && !finding.place.is_empty() && !finding.mend.is_empty(),
                "{finding:?}"
            );
            assert!(CODES.contains(&finding.code), "{finding:?}");
        }
        findings.iter().map(|finding| (finding.code, finding.severity.label())).collect()
    }

    #[test]
    fn a_healthy_node_has_no_findings() {
        let survey = Survey {
            networkd: Some(Networkd { keeps_routes: Setting::InEffect, keeps_rules: Setting::InEffect }),
            network_manager: Some(NetworkManager { leaves_new_nics: true }),
            rules: vec!["100: from all lookup 200".to_owned()],
            claims: vec![
                Claim {
                    path: "/etc/netplan/50-cloud-init.yaml".to_owned(),
                    means: Means::Mac("fa:16:3e:00:00:aa".parse().unwrap()),
                    dhcp: true,
                },
                Claim {
                    path: "/etc/systemd/network/20-static.network".to_owned(),
                    means: Means::Names("en*".to_owned()),
                    dhcp: false,
                },
            ],
            kubelet: Some(Kubelet { external_cloud: true, node_ip: true }),
            ..Survey::default()
        };
        assert_eq!(codes(&[target(OURS, 0, "10.20.0.7/24")], &node(), &survey), []);
    }

    #[test]
    fn an_address_in_a_network_of_the_node_is_refused() {
        for net in ["10.0.0.9/24", "10.0.0.9/28", "10.0.3.1/16"] {
            assert_eq!(
                codes(&[target(OURS, 0, net)], &node(), &Survey::default()),
                [("NetworkOverlap", "refuse")],
                "{net}"
            );
        }
        // Our own NIC has the network already, and so has a service on loopback one address of it.
        let mut observed = node();
        let on = |link, net: &str| LinkAddress {
            link,
            net: net.parse().unwrap(),
            dynamic: false,
            link_local: false,
            duplicate: false,
            tentative: false,
            no_prefix_route: false,
        };
        observed.addresses.extend([on(3, "10.20.0.7/24"), on(2, "10.20.0.200/32"), on(2, "fe80::1/64")]);
        assert_eq!(codes(&[target(OURS, 0, "10.20.0.7/24")], &observed, &Survey::default()), []);
    }

    /// Ours, with a table of its own.
    fn sourced() -> NicTarget {
        let source_routing = Some(SourceRouting { table: 100, metric: 100 });
        let options = NicOptions { source_routing, ..NicOptions::default() };
        NicTarget { options, ..target(OURS, 0, "10.20.0.7/24") }
    }

    fn default_route(table: u32, link: u32) -> Route {
        Route {
            table,
            link,
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: None,
            metric: 0,
            source: None,
            origin: RouteOrigin::Static,
        }
    }

    #[test]
    fn a_table_that_others_use_is_no_interface_s_own() {
        for (table, link, expected) in
            [(100, 2, vec![("TableInUse", "refuse")]), (100, 3, vec![]), (101, 2, vec![])]
        {
            let observed = Observed { other_tables: vec![default_route(table, link)], ..node() };
            assert_eq!(codes(&[sourced()], &observed, &Survey::default()), expected, "{table} {link}");
        }
    }

    #[test]
    fn a_route_of_others_in_a_table_that_a_nic_has_already_is_told_and_stops_no_repair() {
        let other_tables = vec![default_route(100, 2)];
        let observed = Observed { other_tables, ..node() };
        let nic = OwnedNic { target: sourced(), original_name: "eth1".to_owned(), original_mtu: None };
        let owned = Owned::from([(OURS.parse().unwrap(), nic)]);
        let told = |target: NicTarget| examine(&[target], &owned, &observed, &Survey::default());
        assert_eq!(told(sourced())[0].severity, Severity::Warn);
        let mut another = sourced();
        another.options.source_routing = Some(SourceRouting { table: 7, metric: 100 });
        let observed = Observed { other_tables: vec![default_route(7, 2)], ..node() };
        let told = examine(&[another], &owned, &observed, &Survey::default());
        assert_eq!(told[0].severity, Severity::Refuse);
    }

    #[test]
    fn two_nics_in_one_subnet_are_told_unless_both_route_by_source() {
        let sourced = |mac, slot, net| {
            let source_routing = Some(SourceRouting { table: 100, metric: 100 });
            let options = NicOptions { source_routing, ..NicOptions::default() };
            NicTarget { options, ..target(mac, slot, net) }
        };
        let other = "fa:16:3e:00:00:02";
        let (net, beside) = ("10.20.0.7/24", "10.20.0.8/24");
        let told = |targets: &[NicTarget]| codes(targets, &node(), &Survey::default());
        let shared = [("SharedSubnet", "warn")];
        assert_eq!(told(&[target(OURS, 0, net), target(other, 1, beside)]), shared);
        assert_eq!(told(&[sourced(OURS, 0, net), target(other, 1, beside)]), shared);
        assert_eq!(told(&[sourced(OURS, 0, net), sourced(other, 1, beside)]), []);
    }

    #[test]
    fn a_network_around_the_node_s_address_is_refused() {
        let own = "10.0.0.5".parse().unwrap();
        let lifelines = Lifelines { node_addresses: [own].into(), ..Lifelines::default() };
        let mut observed = Observed { lifelines, ..node() };
        observed.addresses[0].net = "10.0.0.5/32".parse().unwrap();
        let of = |net| codes(&[target(OURS, 0, net)], &observed, &Survey::default());
        assert_eq!(of("10.0.0.9/24"), [("NetworkOverlap", "refuse")]);
        assert_eq!(of("10.0.1.9/24"), []);
    }

    #[test]
    fn a_route_into_a_network_of_the_node_is_refused_unless_it_is_in_a_table_of_its_own() {
        let with = |to: &str| {
            let routes = vec![NicRoute { to: to.parse().unwrap(), via: None, metric: 100 }];
            NicTarget {
                options: NicOptions { routes, ..NicOptions::default() },
                ..target(OURS, 0, "10.20.0.7/24")
            }
        };
        let mut observed = node();
        let [alone, six]: [IpAddr; 2] = ["10.9.0.5", "fd00::5"].map(|text| text.parse().unwrap());
        observed.lifelines.node_addresses = [alone, "10.0.0.5".parse().unwrap(), six].into();
        let address = observed.addresses[0].clone();
        let on_eth0 = |net: &str| LinkAddress { net: net.parse().unwrap(), ..address.clone() };
        observed.addresses.extend([on_eth0("10.9.0.5/32"), on_eth0("fd00::5/64")]);
        // Pods, without an address of the link's own, and those of another node.
        let pods = Route {
            table: MAIN_TABLE,
            link: 2,
            destination: "10.244.0.0/24".parse().unwrap(),
            gateway: None,
            metric: 0,
            source: None,
            origin: RouteOrigin::Static,
        };
        let default = Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            ..pods.clone()
        };
        observed.routes = vec![pods, default];
        let refused = [("RouteOverlap", "refuse")];
        for to in ["10.0.0.0/25", "10.0.0.0/24", "fd00::/64", "fd00::/65", "10.244.0.0/28", "10.9.0.0/24"] {
            assert_eq!(codes(&[with(to)], &observed, &Survey::default()), refused, "{to}");
        }
        // What is longer than these wins over them; the last is the interface's own.
        for to in ["10.0.0.0/16", "fd00::/8", "10.30.0.0/16", "10.244.0.0/16", "10.20.0.0/25"] {
            assert_eq!(codes(&[with(to)], &observed, &Survey::default()), [], "{to}");
        }
        let mut sourced = with("10.0.0.0/25");
        sourced.options.source_routing = Some(SourceRouting { table: 100, metric: 100 });
        assert_eq!(codes(&[sourced], &observed, &Survey::default()), []);
        // One that works is not refused because of what others did later.
        let target = with("10.0.0.0/25");
        let nic = OwnedNic { target: target.clone(), original_name: "eth1".to_owned(), original_mtu: None };
        let findings =
            examine(&[target], &[(OURS.parse().unwrap(), nic)].into(), &observed, &Survey::default());
        assert_eq!((findings[0].code, findings[0].severity), ("RouteOverlap", Severity::Warn));
    }

    #[test]
    fn a_network_of_a_link_on_top_of_our_nic_is_not_ours() {
        let mut observed = node();
        let vlan = Link { stacked: true, lower: Some(3), ..link(4, "trunk.100", OURS) };
        observed.addresses[0].link = vlan.index;
        observed.links.push(vlan);
        let refused = [("NetworkOverlap", "refuse")];
        assert_eq!(codes(&[target(OURS, 0, "10.0.0.9/24")], &observed, &Survey::default()), refused);
    }

    #[test]
    fn an_address_that_the_nic_has_stays_whatever_others_did_since() {
        let ours = target(OURS, 0, "10.0.0.9/24");
        let nic = OwnedNic { target: ours.clone(), original_name: "eth1".to_owned(), original_mtu: None };
        let owned: Owned = [(ours.mac, nic)].into();
        let claim = Claim { path: "/etc/a".to_owned(), means: Means::Mac(ours.mac), dhcp: false };
        let survey = Survey { claims: vec![claim], ..Survey::default() };
        let findings = examine(&[ours], &owned, &node(), &survey);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.severity == Severity::Warn), "{findings:?}");
        // Another address of that network it does not get.
        let findings = examine(&[target(OURS, 0, "10.0.0.10/24")], &owned, &node(), &survey);
        assert_eq!(findings[0].severity, Severity::Refuse, "{findings:?}");
    }

    #[test]
    fn what_is_found_against_a_nic_is_heeded_but_not_when_it_is_taken_away() {
        let change = |mac: &str, target: Option<NicTarget>| Change {
            mac: mac.parse().unwrap(),
            kind: if target.is_some() { ChangeKind::Create } else { ChangeKind::Release },
            link: Some(3),
            original_name: "eth1".to_owned(),
            original_mtu: None,
            target,
            former: super::super::Former::default(),
            steps: Vec::new(),
            name_conflict: None,
        };
        let other = "fa:16:3e:00:00:02";
        let [bad, good] = [target(OURS, 0, "10.0.0.9/24"), target(other, 1, "10.20.0.9/24")];
        let findings = examine(&[bad.clone(), good.clone()], &Owned::new(), &node(), &Survey::default());
        let changes = vec![change(OURS, Some(bad)), change(other, Some(good)), change(OURS, None)];
        let mut plan = NodePlan { changes, ..NodePlan::default() };
        let mut of_node = plan.clone();
        plan.heed(&findings);
        let left = |plan: &NodePlan| -> Vec<bool> {
            plan.changes.iter().map(|change| change.target.is_some()).collect()
        };
        assert_eq!(left(&plan), [true, false]);
        // One about the node as a whole stands against every NIC.
        let about_node = |severity| Finding { mac: None, severity, ..findings[0].clone() };
        of_node.heed(&[about_node(Severity::Warn)]);
        assert_eq!(left(&of_node), [true, true, false]);
        of_node.heed(&[about_node(Severity::Refuse)]);
        assert_eq!(left(&of_node), [false]);
        assert_eq!(of_node.refused.len(), 2);
        assert!(
            matches!(&plan.refused[0].reason, RefusalReason::HostUnsafe(why) if why[0].contains("overlaps"))
        );
    }

    #[test]
    fn a_mac_of_several_links_is_refused() {
        let mut observed = node();
        observed.links.push(link(4, "eth2", OURS));
        assert_eq!(
            codes(&[target(OURS, 0, "10.20.0.7/24")], &observed, &Survey::default()),
            [("DuplicateMac", "refuse")]
        );
    }

    #[test]
    fn rules_and_routes_that_networkd_would_drop_are_told() {
        let survey = |keeps, rules: &[&str]| Survey {
            networkd: Some(Networkd { keeps_routes: keeps, keeps_rules: keeps }),
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            ..Survey::default()
        };
        let of = |survey: &Survey| codes(&[], &node(), survey);
        assert_eq!(
            of(&survey(Setting::Unset, &["9: from all"])),
            [("ForeignRules", "warn"), ("ForeignRoutes", "warn")]
        );
        assert_eq!(of(&survey(Setting::OnDisk, &[])), [("ForeignRoutes", "warn")]);
        assert_eq!(of(&survey(Setting::InEffect, &["9: from all"])), []);
        let on_disk = examine(&[], &Owned::new(), &node(), &survey(Setting::OnDisk, &[]));
        assert!(on_disk.iter().all(|finding| finding.mend.contains("restart")), "{on_disk:?}");
    }

    #[test]
    fn what_others_would_do_to_our_nics_is_told() {
        let claim = |means, dhcp| Survey {
            claims: vec![Claim { path: "/etc/netplan/60-other.yaml".to_owned(), means, dhcp }],
            ..Survey::default()
        };
        let targets = [target(OURS, 0, "10.20.0.7/24")];
        let mac = Means::Mac(OURS.parse().unwrap());
        assert_eq!(codes(&targets, &node(), &claim(mac, false)), [("ClaimedByFile", "refuse")]);
        assert_eq!(
            codes(&targets, &node(), &claim(Means::Names("e*".to_owned()), true)),
            [("CatchAll", "warn")]
        );
        assert_eq!(codes(&targets, &node(), &claim(Means::Names("eth0".to_owned()), true)), []);
        let manager =
            Survey { network_manager: Some(NetworkManager { leaves_new_nics: false }), ..Survey::default() };
        assert_eq!(codes(&targets, &node(), &manager), [("AutomaticProfile", "warn")]);
    }

    #[test]
    fn the_larger_reverse_path_filter_of_a_link_and_of_all_counts() {
        let other = "fa:16:3e:00:00:02";
        // Of all, of the link, of new links, of the options; whether it is strict, by the kernel.
        for (all, own, new, asked, strict) in [
            (0, 0, 0, None, false),
            (1, 0, 0, None, true),
            (0, 1, 0, None, true),
            (1, 2, 0, None, false),
            (2, 1, 1, None, false),
            (0, 0, 1, None, false),
            (1, 1, 1, Some(ReversePath::Loose), false),
            (0, 1, 1, Some(ReversePath::Off), false),
            (1, 1, 1, Some(ReversePath::Off), true),
            (0, 0, 0, Some(ReversePath::Strict), true),
            (2, 0, 0, Some(ReversePath::Strict), false),
        ] {
            let mut targets = [target(OURS, 0, "10.20.0.7/24"), target(other, 1, "10.20.0.8/24")];
            targets[0].options.rp_filter = asked;
            targets[1].options.rp_filter = Some(ReversePath::Loose);
            let mut observed = node();
            observed.links[1].settings.rp_filter = own;
            observed.default_settings.rp_filter = new;
            let survey = Survey { reverse_path_of_all: all, ..Survey::default() };
            let findings = examine(&targets, &Owned::new(), &observed, &survey);
            let told = findings.iter().any(|finding| finding.code == "StrictReversePath");
            assert_eq!(told, strict, "{all} {own} {new} {asked:?}: {findings:?}");
            assert_eq!(findings.iter().filter(|finding| finding.code == "SharedSubnet").count(), 1);
        }
    }

    #[test]
    fn a_vlan_that_is_to_be_made_has_the_filter_of_new_links() {
        let mut targets = [target(OURS, 0, "10.20.0.7/24"), target("fa:16:3e:00:00:02", 1, "10.20.0.8/24")];
        targets[0].options.vlan = Some(serde_json::from_str("100").unwrap());
        targets[1].options.rp_filter = Some(ReversePath::Loose);
        let mut observed = node();
        observed.links[1].settings.rp_filter = 1;
        let told = |observed: &Observed| {
            codes(&targets, observed, &Survey::default()).contains(&("StrictReversePath", "warn"))
        };
        assert!(!told(&observed));
        observed.default_settings.rp_filter = 1;
        assert!(told(&observed));
    }

    #[test]
    fn reverse_paths_are_of_ipv4() {
        let targets = [target(OURS, 0, "fd00::7/64"), target("fa:16:3e:00:00:02", 1, "fd00::8/64")];
        let survey = Survey { reverse_path_of_all: 1, ..Survey::default() };
        assert_eq!(codes(&targets, &node(), &survey), [("SharedSubnet", "warn")]);
    }

    #[test]
    fn a_network_of_ours_within_another_of_ours_is_told() {
        let other = "fa:16:3e:00:00:02";
        let of = |one, beside| {
            let targets = [target(OURS, 0, one), target(other, 1, beside)];
            codes(&targets, &node(), &Survey::default())
        };
        let shared = [("SharedSubnet", "warn")];
        assert_eq!(of("10.20.0.7/16", "10.20.3.8/24"), shared);
        assert_eq!(of("10.20.3.7/24", "10.20.0.8/16"), shared);
        assert_eq!(of("10.20.3.7/24", "10.20.4.8/24"), []);
        assert_eq!(of("10.20.3.7/24", "fd00::8/64"), []);
    }

    #[test]
    fn what_stands_in_the_way_of_changes_is_told_and_refuses_where_none_is_made() {
        let hindrance = |kind, stops| Hindrance {
            kind,
            found: "found".to_owned(),
            place: "place".to_owned(),
            needed_for: "nothing works".to_owned(),
            stops,
        };
        let hindrances = vec![
            hindrance(HindranceKind::BusUnreachable, false),
            hindrance(HindranceKind::BusDenied, false),
            hindrance(HindranceKind::UndoProgram, true),
        ];
        let survey = Survey { hindrances, ..Survey::default() };
        assert_eq!(
            codes(&[], &node(), &survey),
            [("UndoProgram", "refuse"), ("BusUnreachable", "warn"), ("BusDenied", "warn")]
        );
    }

    #[test]
    fn an_internal_address_that_may_move_is_told() {
        let survey =
            Survey { kubelet: Some(Kubelet { external_cloud: true, node_ip: false }), ..Survey::default() };
        assert_eq!(
            codes(&[target(OURS, 0, "10.20.0.7/24")], &node(), &survey),
            [("NodeAddressMayMove", "warn")]
        );
    }
}
