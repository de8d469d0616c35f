//! What the kernel tells unasked: that links and addresses came, changed or went, and routes, rules and settings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_core::node::observed::{Route, Rule};
use netlink_packet_core::{NetlinkBuffer, NlasIterator, Parseable};
use netlink_packet_route::rule::RuleMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use rustix::io::Errno;

use super::socket::BUFFER;
use super::{NetlinkError, read, rules};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`.
const LINKS: u32 = 0x1 | 0x10 | 0x100;

/// `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_ROUTE`, and by their numbers in `rtnetlink_groups` `RTNLGRP_IPV4_RULE`,
/// `RTNLGRP_IPV6_RULE` and `RTNLGRP_IPV4_NETCONF`. A node with a pod network has more routes than of anything else: they have
/// a socket of their own, so that a flood of them costs no event of a link.
const ROUTING: u32 = 0x40 | 0x400 | 1 << (8 - 1) | 1 << (19 - 1) | 1 << (24 - 1);

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNETCONF: u16 = 80;

/// Something happened in the network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link came, or something about it changed.
    Link {
        /// Its index.
        link: u32,
        /// Its name.
        name: String,
        /// Its MAC, if it has one.
        mac: Option<MacAddr>,
        /// Whether it is up.
        up: bool,
    },
    /// A link went.
    LinkGone {
        /// Its index.
        link: u32,
        /// Its name.
        name: String,
        /// Its MAC, if it had one.
        mac: Option<MacAddr>,
        /// Whether it went into another network namespace, as one does that is given to a pod.
        moved: bool,
    },
    /// A link got an address, or an address changed.
    Address {
        /// The link's index.
        link: u32,
        /// The address.
        net: IpNet,
    },
    /// A link lost an address.
    AddressGone {
        /// The link's index.
        link: u32,
        /// The address.
        net: IpNet,
    },
    /// A route came, changed or went. One that was replaced says nothing of what it was before.
    Route(Route),
    /// A policy rule came or went.
    Rule(Rule),
    /// A setting of a link below `net.ipv4.conf` changed: one of those of which the kernel tells, `rp_filter` among them.
    Settings {
        /// The link's index.
        link: u32,
    },
    /// Events of links or addresses were lost, or some were not understood: look at everything.
    Lost,
    /// Events of routes, rules or settings were lost: there are very many of them just now.
    RoutingLost,
}

/// The events from now on.
pub struct Events {
    links: TokioSocket,
    routing: TokioSocket,
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    hands: BTreeMap<u32, Process>,
    moved: BTreeSet<MacAddr>,
}

/// A process that changes addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl Events {
    /// Listens in the network namespace of this thread, which has to run a tokio runtime.
    pub fn listen() -> Result<Self, NetlinkError> {
        let listen = |groups| {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            // A node that starts a hundred pods makes some thousand events at once.
            let _ = socket.socket_ref().set_rx_buf_sz(1_u32 << 20);
            socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
            Ok(socket)
        };
        let open = |groups| listen(groups).map_err(NetlinkError::Open);
        Ok(Self {
            links: open(LINKS)?,
            routing: open(ROUTING)?,
            buffer: Vec::new(),
            ready: VecDeque::new(),
            hands: BTreeMap::new(),
            moved: BTreeSet::new(),
        })
    }

    /// The process that last changed an address of a link, if it was not this one. The kernel tells the number of the socket,
    /// which is that of the process for its first one, as long as both see the same processes.
    pub fn hand_on(&self, link: u32) -> Option<&Process> {
        self.hands.get(&link)
    }

    /// The NICs that went into other network namespaces and have not come back since.
    pub fn moved(&self) -> &BTreeSet<MacAddr> {
        &self.moved
    }

    /// Remembers what went before anybody listened.
    pub fn went_before(&mut self, macs: &BTreeSet<MacAddr>) {
        self.moved.extend(macs);
    }

    /// Forgets where others than these went.
    pub fn keep_moved(&mut self, macs: &BTreeSet<MacAddr>) {
        self.moved.retain(|mac| macs.contains(mac));
    }

    /// Forgets who changed other links than these.
    pub fn keep_hands_on(&mut self, links: &BTreeSet<u32>) {
        self.hands.retain(|link, _| links.contains(link));
    }

    /// The next event. Nothing is lost if this is dropped while it waits.
    pub async fn next(&mut self) -> Result<Event, NetlinkError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<(), NetlinkError> {
        let Self { links, routing, buffer, .. } = self;
        buffer.clear();
        buffer.reserve(BUFFER);
        let (received, lost) = poll_fn(|context| {
            if let Poll::Ready(received) = links.poll_recv(context, buffer) {
                return Poll::Ready((received, Event::Lost));
            }
            routing.poll_recv(context, buffer).map(|received| (received, Event::RoutingLost))
        })
        .await;
        match received {
            Ok(()) => self.take(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                self.ready.push_back(lost);
            }
            Err(source) => return Err(NetlinkError::Read { what: "events", source }),
        }
        if self.ready.is_empty() {
            // What is not of use to anybody must not keep 64 KiB.
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn take(&mut self) {
        for (sender, event) in read_all(&self.buffer) {
            if let Event::Address { link, .. } | Event::AddressGone { link, .. } = event
                && let Some(process) = process(sender)
            {
                self.hands.insert(link, process);
            }
            match event {
                Event::LinkGone { mac: Some(mac), moved: true, .. } => _ = self.moved.insert(mac),
                Event::Link { mac: Some(mac), .. } => _ = self.moved.remove(&mac),
                _ => {}
            }
            self.ready.push_back(event);
        }
    }
}

/// The events that a datagram of the kernel tells of, each with the number of the socket that caused it. No bytes are too
/// strange: what is not understood is [`Event::Lost`].
pub fn read_all(datagram: &[u8]) -> Vec<(u32, Event)> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            found.push((0, Event::Lost));
            break;
        };
        let events = events(message.message_type(), message.payload());
        found.extend(events.into_iter().map(|event| (message.port_number(), event)));
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Who it is, while it still runs. Nobody's number is that of the kernel, 0.
fn process(id: u32) -> Option<Process> {
    if id == 0 || id == std::process::id() {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    Some(Process { id, name: name.trim_end().to_owned() })
}

fn events(kind: u16, payload: &[u8]) -> Vec<Event> {
    // What a bridge tells of its ports (`AF_BRIDGE`) is not the link itself: RTM_DELLINK is a port that leaves it.
    const AF_UNSPEC: u8 = 0;
    let one = match kind {
        RTM_NEWLINK | RTM_DELLINK if payload.first() != Some(&AF_UNSPEC) => None,
        RTM_NEWLINK | RTM_DELLINK => Some(match read::link(payload) {
            Ok(link) if kind == RTM_NEWLINK => {
                Event::Link { link: link.index, name: link.name, mac: link.mac, up: link.up }
            }
            Ok(link) => {
                let moved = is_moved(payload);
                Event::LinkGone { link: link.index, name: link.name, mac: link.mac, moved }
            }
            Err(_) => Event::Lost,
        }),
        RTM_NEWADDR | RTM_DELADDR => match read::address(payload) {
            Ok(Some(address)) if kind == RTM_NEWADDR => {
                Some(Event::Address { link: address.link, net: address.net })
            }
            Ok(Some(address)) => Some(Event::AddressGone { link: address.link, net: address.net }),
            Ok(None) => None,
            Err(_) => Some(Event::Lost),
        },
        RTM_NEWROUTE | RTM_DELROUTE => match read::routes(payload) {
            Ok(routes) => return routes.into_iter().map(Event::Route).collect(),
            // A form that is younger than this program is none that it set.
            Err(_) => None,
        },
        RTM_NEWRULE | RTM_DELRULE => {
            RuleMessage::parse(payload).ok().map(|message| Event::Rule(rules::read(&message)))
        }
        RTM_NEWNETCONF => settings_of(payload).map(|link| Event::Settings { link }),
        _ => None,
    };
    one.into_iter().collect()
}

/// Whether a message of a link that went says where to.
fn is_moved(payload: &[u8]) -> bool {
    const HEADER: usize = 16;
    const IFLA_NEW_NETNSID: u16 = 45;
    let attributes = NlasIterator::new(payload.get(HEADER..).unwrap_or_default());
    attributes.map_while(Result::ok).any(|attribute| attribute.kind() == IFLA_NEW_NETNSID)
}

/// The link of a `netconfmsg`; none for `all` and `default`, which have numbers below zero.
fn settings_of(payload: &[u8]) -> Option<u32> {
    const HEADER: usize = 4;
    const NETCONFA_IFINDEX: u16 = 1;
    let mut attributes = NlasIterator::new(payload.get(HEADER..)?).map_while(Result::ok);
    let index = attributes.find(|attribute| attribute.kind() == NETCONFA_IFINDEX)?;
    let index = i32::from_ne_bytes(*index.value().first_chunk()?);
    u32::try_from(index).ok()
}
