//! Neighbours on a link, as far as they are gateways: whether they answer.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, Parseable};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::socket::{Failure, Message, Netlink};
use super::{LinkRef, NetlinkError};

const RTM_NEWNEIGH: u16 = 28;

/// How far the kernel knows a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// It answered some seconds ago at most (`NUD_REACHABLE`).
    Answers,
    /// It answered once, and was not asked since (`NUD_STALE`), or is being asked (`NUD_DELAY`, `NUD_PROBE`).
    Known,
    /// It is not asked at all: somebody set its address for good, or the link needs none.
    Set,
    /// It does not answer, or nobody ever talked to it.
    Unknown,
}

impl Netlink {
    /// How far the kernel knows a neighbour.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn neighbour(&self, link: u32, address: IpAddr) -> Result<Neighbour, NetlinkError> {
        let message = RouteNetlinkMessage::GetNeighbour(about(link, address));
        let answer = match self.ask(&message) {
            Ok(answer) => answer,
            Err(Failure { source, .. }) if source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                return Ok(Neighbour::Unknown);
            }
            // Kernels before 5.0 tell of all only.
            Err(Failure { source, .. }) if source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                let mut all = NeighbourMessage::default();
                all.header.family = family(address);
                self.list("neighbours", &RouteNetlinkMessage::GetNeighbour(all))?
            }
            Err(Failure { source, .. }) => return Err(NetlinkError::Read { what: "neighbours", source }),
        };
        Ok(answer.iter().find_map(|message| standing(message, link, address)).unwrap_or(Neighbour::Unknown))
    }

    /// Has the kernel ask a neighbour whether it is still there. [`Self::neighbour`] then tells what came of it: the kernel
    /// asks three times, a second apart. One that was set is left alone.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn ask_neighbour(&self, link: &LinkRef, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = about(link.index, address);
        let flags = match self.neighbour(link.index, address)? {
            Neighbour::Set => return Ok(()),
            Neighbour::Answers | Neighbour::Known => {
                message.header.state = NeighbourState::Probe;
                0
            }
            Neighbour::Unknown => {
                message.header.flags = NeighbourFlags::Use;
                NLM_F_CREATE
            }
        };
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.change(format!("ask the neighbour {address} on"), link, &message, flags)
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn about(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader { family: family(address), ifindex: link, ..NeighbourHeader::default() };
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

/// What a message says, if it is about this neighbour.
fn standing((kind, payload): &Message, link: u32, address: IpAddr) -> Option<Neighbour> {
    let message = (*kind == RTM_NEWNEIGH).then(|| NeighbourMessage::parse(payload).ok())??;
    let wanted = NeighbourAddress::from(address);
    let named = message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, NeighbourAttribute::Destination(found) if *found == wanted));
    (named && message.header.ifindex == link).then_some(match message.header.state {
        NeighbourState::Reachable => Neighbour::Answers,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => Neighbour::Known,
        NeighbourState::Permanent | NeighbourState::Noarp => Neighbour::Set,
        _ => Neighbour::Unknown,
    })
}
