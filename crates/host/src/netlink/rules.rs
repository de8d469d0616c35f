//! The policy rules that decide which routing table is asked.

use std::io;

use netlink_packet_core::Parseable;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetlinkError;
use super::socket::Netlink;

const RTM_NEWRULE: u16 = 32;
/// The kernel's own: the tables local, main and default.
const KERNELS: [(u32, u32); 3] = [(0, 255), (32766, 254), (32767, 253)];

impl Netlink {
    /// The rules that the kernel did not make itself, as `ip rule` would show the most of them.
    ///
    /// # Errors
    /// Where the kernel does not tell them.
    pub fn rules(&self) -> Result<Vec<String>, NetlinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            for (kind, payload) in self.list("rules", &RouteNetlinkMessage::GetRule(message))? {
                if kind != RTM_NEWRULE {
                    continue;
                }
                let rule = RuleMessage::parse(&payload).map_err(|error| NetlinkError::Read {
                    what: "rules",
                    source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
                })?;
                found.extend(foreign(&rule));
            }
        }
        Ok(found)
    }
}

/// A rule in words, unless it is the kernel's.
fn foreign(rule: &RuleMessage) -> Option<String> {
    let (mut priority, mut table) = (0, u32::from(rule.header.table));
    let (mut from, mut to, mut mark, mut kernels) = ("all".to_owned(), String::new(), String::new(), false);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Source(address) => from = format!("{address}/{}", rule.header.src_len),
            RuleAttribute::Destination(address) => to = format!(" to {address}/{}", rule.header.dst_len),
            RuleAttribute::FwMark(number) => mark = format!(" fwmark {number:#x}"),
            RuleAttribute::Protocol(RouteProtocol::Kernel) => kernels = true,
            _ => {}
        }
    }
    // Kernels before 4.17 do not say whose a rule is.
    kernels |= KERNELS.contains(&(priority, table)) && from == "all" && to.is_empty() && mark.is_empty();
    (!kernels).then(|| format!("{priority}: from {from}{to}{mark} lookup {table}"))
}
