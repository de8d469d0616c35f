//! What the kernel says about links that are not ours.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use multinic_core::MacAddr;
use rtnetlink::constants::{
    RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::foreign::{is_our_rule, is_ours, links_of, name};
use super::{NetNs, NodeError, netlink, system};

/// `RTNLGRP_IPV6_RULE` is beyond the groups that a bind can name by a constant of the library.
const RTNLGRP_IPV6_RULE: u32 = 19;

/// A recording of everything that happens in a namespace to links, addresses, routes and rules.
pub struct NetlinkWatch {
    socket: Socket,
    ours: Vec<MacAddr>,
    /// Which links are ours, by index, with those that are gone.
    known: BTreeMap<u32, bool>,
}

impl std::fmt::Debug for NetlinkWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetlinkWatch").field("ours", &self.ours).finish_non_exhaustive()
    }
}

impl NetlinkWatch {
    /// Records from now on.
    pub fn start(node: &NetNs, ours: &[MacAddr]) -> Result<Self, NodeError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            // As much as is allowed; if it is not enough, that is told.
            let _ = socket.set_rx_buf_sz(8_u32 << 20);
            let groups = RTMGRP_LINK
                | RTMGRP_IPV4_IFADDR
                | RTMGRP_IPV6_IFADDR
                | RTMGRP_IPV4_ROUTE
                | RTMGRP_IPV6_ROUTE
                | RTMGRP_IPV4_RULE;
            socket.bind(&SocketAddr::new(0, groups))?;
            socket.add_membership(RTNLGRP_IPV6_RULE)?;
            Ok(socket)
        };
        let socket = node.run(open)?.map_err(system(format!("watch {}", node.name())))?;
        let links = node
            .netlink(async |handle| handle.link().get().execute().try_collect::<Vec<LinkMessage>>().await)?;
        let links = links.map_err(netlink(format!("list the links of {}", node.name())))?;
        let known = links.iter().map(|link| (link.header.index, is_ours(link, ours))).collect();
        Ok(Self { socket, ours: ours.to_vec(), known })
    }

    /// What was said so far about what is not ours, in words. The kernel says it before a change is done, so nothing is
    /// still on its way.
    pub fn foreign_messages(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(64 * 1024);
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return found,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    found.push(format!("the recording has a hole: {error}"));
                    continue;
                }
            }
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                let Ok(message) = NetlinkMessage::<Message>::deserialize(rest) else {
                    found.push(format!("a message that is not understood: {rest:?}"));
                    break;
                };
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && !self.is_about_ours(&message)
                {
                    found.push(words(&message));
                }
            }
        }
    }

    /// For tests: that nothing was said about what is not ours.
    #[track_caller]
    pub fn assert_silent(&mut self) {
        let found = self.foreign_messages();
        assert!(found.is_empty(), "something happened to what is not ours:\n{}", found.join("\n"));
    }

    /// For tests: that none of these addresses was taken away from any link so far, not for a moment. Only of a recording
    /// to which nothing is ours can this be said.
    #[track_caller]
    pub fn assert_keeps(&mut self, addresses: &[IpAddr]) {
        assert!(self.ours.is_empty(), "what happens to ours is not recorded");
        for message in self.foreign_messages() {
            assert!(!message.contains("hole"), "{message}");
            let lost = message.starts_with("DelAddress")
                && addresses.iter().any(|address| message.contains(&format!("({address})")));
            assert!(!lost, "{message}");
        }
    }

    fn is_about_ours(&mut self, message: &Message) -> bool {
        let known = |index: &u32| self.known.get(index).copied().unwrap_or_default();
        match message {
            Message::NewLink(link) | Message::DelLink(link) => {
                let ours = is_ours(link, &self.ours) || known(&link.header.index);
                self.known.insert(link.header.index, ours);
                ours
            }
            Message::NewAddress(address) | Message::DelAddress(address) => known(&address.header.index),
            Message::NewRoute(route) | Message::DelRoute(route) => {
                let mut links = links_of(route).peekable();
                links.peek().is_some() && links.all(|link| known(&link))
            }
            Message::NewRule(rule) | Message::DelRule(rule) => is_our_rule(rule),
            _ => false,
        }
    }
}

fn words(message: &Message) -> String {
    match message {
        Message::NewLink(link) => format!("link {} is new or changed: {:?}", name(link), link.header),
        Message::DelLink(link) => format!("link {} is gone", name(link)),
        other => format!("{other:?}"),
    }
}
