//! Everything on a node that is not ours, as lines of text: what differs can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use multinic_core::{InterfaceName, MacAddr};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion};

use super::{NetNs, NodeError, netlink, system};

/// Duplicate address detection takes up to two seconds for each address.
const REST: Duration = Duration::from_secs(10);

/// Everything on a node that is not ours: links, addresses, routes of all tables, rules, whether routers are listened to,
/// and files with their content, mode, owner, inode and time of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignState {
    lines: BTreeSet<String>,
}

impl ForeignState {
    /// Looks at a node. The NICs of `ours` are left out, and below `root` our own folder and those files of network managers
    /// that are named as ours are and name one of `ours`. Waits until the kernel is done with foreign IPv6 addresses, which
    /// it changes by itself at first.
    pub fn capture(node: &NetNs, root: &Path, ours: &[MacAddr]) -> Result<Self, NodeError> {
        Self::capture_folders(node, root, &[""], ours)
    }

    /// The same, with the files of these folders below `root` alone. One that is not there has no files.
    pub fn capture_folders(
        node: &NetNs,
        root: &Path,
        folders: &[&str],
        ours: &[MacAddr],
    ) -> Result<Self, NodeError> {
        let deadline = Instant::now() + REST;
        let mut lines = loop {
            let kernel = node.netlink(async |handle| Kernel::read(&handle).await)?;
            let kernel = kernel.map_err(netlink(format!("look at {}", node.name())))?;
            let foreign = kernel.foreign(ours);
            if !kernel.is_restless(&foreign) {
                break node.run(|| kernel.lines(&foreign))?;
            }
            if Instant::now() > deadline {
                return Err(NodeError::Restless(node.name().to_owned()));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let ours = Ours { macs: ours, interfaces: our_interfaces(root, ours) };
        for folder in folders.iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()) {
            files(root, &folder, &ours, &mut lines).map_err(system(format!("read {}", folder.display())))?;
        }
        Ok(Self { lines })
    }

    /// What differs, line by line; empty if nothing does.
    pub fn difference(&self, after: &Self) -> String {
        let mut text = String::new();
        let gone = self.lines.difference(&after.lines).map(|line| ('-', line));
        let new = after.lines.difference(&self.lines).map(|line| ('+', line));
        for (sign, line) in gone.chain(new) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{sign} {line}");
        }
        text
    }

    /// For tests: that nothing differs.
    #[track_caller]
    pub fn assert_same(&self, after: &Self) {
        let difference = self.difference(after);
        assert!(difference.is_empty(), "something was touched that is not ours:\n{difference}");
    }
}

struct Kernel {
    links: Vec<LinkMessage>,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
    rules: Vec<String>,
}

impl Kernel {
    async fn read(handle: &Handle) -> Result<Self, rtnetlink::Error> {
        let mut routes: Vec<RouteMessage> = Vec::new();
        let mut rules = Vec::new();
        for (version, family) in [
            (IpVersion::V4, rtnetlink::packet_route::AddressFamily::Inet),
            (IpVersion::V6, rtnetlink::packet_route::AddressFamily::Inet6),
        ] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            routes.extend(handle.route().get(message).execute().try_collect::<Vec<_>>().await?);
            let found: Vec<_> = handle.rule().get(version).execute().try_collect().await?;
            rules.extend(found.iter().filter(|rule| !is_our_rule(rule)).map(|rule| format!("rule {rule:?}")));
        }
        Ok(Self {
            links: handle.link().get().execute().try_collect().await?,
            addresses: handle.address().get().execute().try_collect().await?,
            routes,
            rules,
        })
    }

    /// The names of the links that are not ours, by index.
    fn foreign(&self, ours: &[MacAddr]) -> BTreeMap<u32, String> {
        let is_foreign = |link: &&LinkMessage| !is_ours(link, ours);
        self.links.iter().filter(is_foreign).map(|link| (link.header.index, name(link))).collect()
    }

    /// Whether the kernel is still busy with an IPv6 address: until a link that has got its carrier is seen to be running,
    /// which is when it is given its first one; until duplicate address detection is done with one, and then until it has
    /// its own route. On a link without carrier nothing of this begins.
    fn is_restless(&self, foreign: &BTreeMap<u32, String>) -> bool {
        let has_carrier = |index: u32| {
            let running = LinkFlags::Up | LinkFlags::LowerUp;
            self.links.iter().any(|link| link.header.index == index && link.header.flags.contains(running))
        };
        let beginning =
            self.links.iter().filter(|link| foreign.contains_key(&link.header.index)).any(|link| {
                has_carrier(link.header.index) && !link.header.flags.contains(LinkFlags::Running)
            });
        beginning
            || self.addresses.iter().any(|address| {
                let index = address.header.index;
                let (mut own, mut flags) = (None, AddressFlags::empty());
                for attribute in &address.attributes {
                    match attribute {
                        AddressAttribute::Address(IpAddr::V6(found)) => own = Some(*found),
                        AddressAttribute::Flags(found) => flags = *found,
                        _ => {}
                    }
                }
                let Some(own) = own.filter(|_| foreign.contains_key(&index) && has_carrier(index)) else {
                    return false;
                };
                let route = RouteAttribute::Destination(RouteAddress::Inet6(own));
                let routed = self.routes.iter().any(|found| {
                    found.header.destination_prefix_length == 128
                        && found.header.kind == RouteType::Local
                        && found.attributes.contains(&route)
                });
                !flags.contains(AddressFlags::Dadfailed)
                    && (flags.contains(AddressFlags::Tentative) || !routed)
            })
    }

    fn lines(&self, foreign: &BTreeMap<u32, String>) -> BTreeSet<String> {
        let mut lines: BTreeSet<String> = self.rules.iter().cloned().collect();
        lines
            .extend(self.links.iter().filter(|link| foreign.contains_key(&link.header.index)).map(link_line));
        for address in &self.addresses {
            if let Some(name) = foreign.get(&address.header.index) {
                lines.insert(address_line(name, address));
            }
        }
        let foreign_routes = self.routes.iter().filter(|route| {
            let mut links = links_of(route).peekable();
            links.peek().is_none() || links.any(|link| foreign.contains_key(&link))
        });
        lines.extend(foreign_routes.map(route_line));
        for name in foreign.values().map(String::as_str).chain(["all", "default"]) {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/accept_ra");
            let value = fs::read_to_string(path).unwrap_or_default();
            lines.insert(format!("accept_ra {name} {}", value.trim()));
        }
        lines
    }
}

pub(super) fn is_ours(link: &LinkMessage, ours: &[MacAddr]) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::Address(bytes) | LinkAttribute::PermAddress(bytes) => {
            ours.iter().any(|mac| mac.bytes().as_slice() == bytes.as_slice())
        }
        _ => false,
    })
}

pub(super) fn name(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_else(|| format!("link {}", link.header.index))
}

/// Whether a rule is about one address, and of the priorities that are an agent's own: 10000 plus the table.
pub(super) fn is_our_rule(rule: &RuleMessage) -> bool {
    let (mut priority, mut table) = (0, u32::from(rule.header.table));
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    matches!(rule.header.src_len, 32 | 128) && priority == 10_000 + table
}

/// The links that a route leaves by.
pub(super) fn links_of(route: &RouteMessage) -> impl Iterator<Item = u32> + '_ {
    route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => vec![*link],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    })
}

fn link_line(link: &LinkMessage) -> String {
    // Whether a cable is plugged in is not a setting, and the kernel tells of it late.
    let flags = link.header.flags & !(LinkFlags::Running | LinkFlags::LowerUp);
    let mut parts: Vec<String> = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Address(_)
            | LinkAttribute::PermAddress(_)
            | LinkAttribute::Mtu(_)
            | LinkAttribute::Controller(_)
            | LinkAttribute::PropList(_)
            | LinkAttribute::IfAlias(_)
            | LinkAttribute::TxQueueLen(_) => Some(format!("{attribute:?}")),
            LinkAttribute::LinkInfo(info) => {
                let kind = info.iter().find(|info| matches!(info, LinkInfo::Kind(_)));
                kind.map(|kind| format!("{kind:?}"))
            }
            _ => None,
        })
        .collect();
    parts.sort();
    format!("link {} index {} {flags:?} {}", name(link), link.header.index, parts.join(" "))
}

fn address_line(link: &str, address: &AddressMessage) -> String {
    let parts: Vec<String> = address
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            // How long it lasts passes by itself; that it lasts is among the flags.
            AddressAttribute::CacheInfo(_) => None,
            _ => Some(format!("{attribute:?}")),
        })
        .collect();
    let header = &address.header;
    format!("address of {link} /{} {:?} {}", header.prefix_len, header.scope, parts.join(" "))
}

fn route_line(route: &RouteMessage) -> String {
    let parts: Vec<String> = route
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_) => None,
            _ => Some(format!("{attribute:?}")),
        })
        .collect();
    let header = &route.header;
    let origin = (header.address_family, header.table, header.protocol, header.scope, header.kind);
    format!("route {origin:?} /{} {}", header.destination_prefix_length, parts.join(" "))
}

/// What is left out.
struct Ours<'a> {
    macs: &'a [MacAddr],
    interfaces: BTreeSet<InterfaceName>,
}

fn files(root: &Path, directory: &Path, ours: &Ours<'_>, lines: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path);
        if shown == Path::new("var/lib/multinic") {
            continue;
        }
        if metadata.is_dir() {
            files(root, &path, ours, lines)?;
            continue;
        }
        let content = if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path)?.display())
        } else if metadata.is_file() {
            let bytes = fs::read(&path)?;
            if is_our_file(shown, &bytes, ours) {
                continue;
            }
            shown_content(&bytes)
        } else {
            "special".to_owned()
        };
        lines.insert(format!(
            "file {} mode {:o} owner {}:{} inode {} changed {}.{:09} {content}",
            shown.display(),
            metadata.permissions().mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.ino(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ));
    }
    Ok(())
}

/// Larger content is told by its length and a hash: a test holds several looks at a node at a time, and starts programs, which
/// takes the longer the more memory it holds.
const SHOWN: usize = 4096;

fn shown_content(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN {
        return bytes.escape_ascii().to_string();
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{} bytes, hash {:016x}", bytes.len(), hasher.finish())
}

/// Where network managers and udev read files, and netplan leaves what it makes of its own.
const OF_MANAGERS: [&str; 5] = [
    "etc/netplan",
    "etc/systemd/network",
    "etc/NetworkManager/system-connections",
    "etc/sysconfig/network-scripts",
    "run/systemd/network",
];

/// The interfaces that are ours: those for which a manager's file below `root` is named that names one of our MACs.
fn our_interfaces(root: &Path, ours: &[MacAddr]) -> BTreeSet<InterfaceName> {
    let entries = OF_MANAGERS.iter().filter_map(|folder| fs::read_dir(root.join(folder)).ok()).flatten();
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter_map(|path| {
            let name = interface_of(path.file_name()?.to_str()?)?;
            names_one_of(&fs::read(&path).ok()?, ours).then_some(name)
        })
        .collect()
}

/// The interface for which a manager's file is named as ours are.
fn interface_of(file: &str) -> Option<InterfaceName> {
    let (before, rest) = file.split_once("-multinic")?;
    let digits = rest.trim_end_matches(|character: char| !character.is_ascii_digit());
    let ending = rest.strip_prefix(digits)?;
    let is_ours =
        !before.starts_with('.') && ["", ".yaml", ".link", ".network", ".nmconnection"].contains(&ending);
    is_ours.then(|| format!("multinic{digits}").parse().ok()).flatten()
}

fn names_one_of(bytes: &[u8], ours: &[MacAddr]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    ours.iter().any(|mac| text.contains(&mac.to_string()))
}

/// A manager's file that is named for an interface and names one of our MACs; or one that can name none, is named for an
/// interface that is ours, and says nothing of any other.
fn is_our_file(path: &Path, bytes: &[u8], ours: &Ours<'_>) -> bool {
    if ours.interfaces.iter().any(|name| is_beside(*name, path, bytes)) {
        return true;
    }
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    OF_MANAGERS.iter().any(|folder| path.parent() == Some(Path::new(folder)))
        && interface_of(file).is_some()
        && names_one_of(bytes, ours.macs)
}

/// Settings in `etc/sysctl.d`, and routes beside an ifcfg file.
fn is_beside(name: InterfaceName, path: &Path, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let every_line =
        |fits: &dyn Fn(&str) -> bool| text.lines().filter(|line| !line.starts_with('#')).all(fits);
    let is = |file: String| path == Path::new(&file);
    if is(format!("etc/sysctl.d/90-{name}.conf")) {
        return every_line(&|line| line.starts_with(&format!("net.ipv4.conf.{name}.")));
    }
    let scripts = "etc/sysconfig/network-scripts";
    (is(format!("{scripts}/route-{name}")) || is(format!("{scripts}/route6-{name}")))
        && every_line(&|line| line.contains(&format!(" dev {name} ")))
}
