//! What the kernel tells unasked: that links and addresses came, changed or went.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;

use ipnet::IpNet;
use multinic_core::MacAddr;
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use rustix::io::Errno;

use super::socket::BUFFER;
use super::{NetlinkError, read};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`. Routes are left out: a node with a pod network has more of
/// those than of anything else, and the slow full pass sees the few that matter.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;

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
    /// Events were lost, or were not understood: look at everything.
    Lost,
}

impl Event {
    /// The link, if it is known.
    pub fn link(&self) -> Option<u32> {
        match self {
            Self::Link { link, .. }
            | Self::LinkGone { link, .. }
            | Self::Address { link, .. }
            | Self::AddressGone { link, .. } => Some(*link),
            Self::Lost => None,
        }
    }
}

/// The events from now on.
pub struct Events {
    socket: TokioSocket,
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    hands: BTreeMap<u32, Process>,
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
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            // A node that starts a hundred pods makes some thousand events at once.
            let _ = socket.socket_ref().set_rx_buf_sz(1_u32 << 20);
            socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
            Ok(socket)
        };
        let socket = open().map_err(NetlinkError::Open)?;
        Ok(Self { socket, buffer: Vec::new(), ready: VecDeque::new(), hands: BTreeMap::new() })
    }

    /// The process that last changed an address of a link, if it was not this one. The kernel tells the number of the socket,
    /// which is that of the process for its first one, as long as both see the same processes.
    pub fn hand_on(&self, link: u32) -> Option<&Process> {
        self.hands.get(&link)
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
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        let failed = |source| NetlinkError::Read { what: "events", source };
        match poll_fn(|context| self.socket.poll_recv(context, &mut self.buffer)).await {
            Ok(()) => self.take(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                self.ready.push_back(Event::Lost);
            }
            Err(source) => return Err(failed(source)),
        }
        if self.ready.is_empty() {
            // What is not of use to anybody must not keep 64 KiB.
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn take(&mut self) {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let Ok(message) = NetlinkBuffer::new_checked(rest) else {
                self.ready.push_back(Event::Lost);
                return;
            };
            let event = event(message.message_type(), message.payload());
            if let Some(Event::Address { link, .. } | Event::AddressGone { link, .. }) = event
                && let Some(process) = process(message.port_number())
            {
                self.hands.insert(link, process);
            }
            self.ready.extend(event);
            rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Who it is, while it still runs. Nobody's number is that of the kernel, 0.
fn process(id: u32) -> Option<Process> {
    if id == 0 || id == std::process::id() {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    Some(Process { id, name: name.trim_end().to_owned() })
}

fn event(kind: u16, payload: &[u8]) -> Option<Event> {
    // What a bridge tells of its ports (`AF_BRIDGE`) is not the link itself: RTM_DELLINK is a port that leaves it.
    const AF_UNSPEC: u8 = 0;
    match kind {
        RTM_NEWLINK | RTM_DELLINK if payload.first() != Some(&AF_UNSPEC) => None,
        RTM_NEWLINK | RTM_DELLINK => Some(match read::link(payload) {
            Ok(link) if kind == RTM_NEWLINK => {
                Event::Link { link: link.index, name: link.name, mac: link.mac, up: link.up }
            }
            Ok(link) => Event::LinkGone { link: link.index, name: link.name, mac: link.mac },
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
        _ => None,
    }
}
