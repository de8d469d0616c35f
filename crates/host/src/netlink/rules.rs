//! The policy rules that decide which routing table is asked.

use std::io;

use ipnet::IpNet;
use multinic_core::node::observed::Rule;
use multinic_core::options::RULE_PRIORITY_BASE;
use netlink_packet_core::Parseable;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetlinkError;
use super::socket::Netlink;

const RTM_NEWRULE: u16 = 32;
/// The kernel's own: the tables local, main and default.
const KERNELS: [(u32, u32); 3] = [(0, 255), (32766, 254), (32767, 253)];

impl Netlink {
    /// Every rule that this program understands. One that is younger is none that it wrote.
    ///
    /// # Errors
    /// Where the kernel does not tell them.
    pub fn rules(&self) -> Result<Vec<Rule>, NetlinkError> {
        Ok(self.rules_with_protocols()?.into_iter().map(|(rule, _)| rule).collect())
    }

    /// The same, each with the number of who says that he set it (`FRA_PROTOCOL`); kernels before 4.17 do not say that.
    ///
    /// # Errors
    /// Where the kernel does not tell them.
    pub fn rules_with_protocols(&self) -> Result<Vec<(Rule, Option<u8>)>, NetlinkError> {
        let payloads = self.saved_rules()?;
        let rules = payloads.iter().filter_map(|payload| RuleMessage::parse(payload).ok());
        Ok(rules.map(|rule| (read(&rule), protocol(&rule))).collect())
    }

    /// The rules that neither the kernel made itself nor we, as `ip rule` would show the most of them.
    ///
    /// # Errors
    /// Where the kernel does not tell them.
    pub fn foreign_rules(&self) -> Result<Vec<String>, NetlinkError> {
        let mut found = Vec::new();
        for payload in self.saved_rules()? {
            let rule = RuleMessage::parse(&payload).map_err(|error| NetlinkError::Read {
                what: "rules",
                source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
            })?;
            found.extend(Some(&rule).filter(|rule| !is_as_ours(&read(rule))).and_then(foreign));
        }
        Ok(found)
    }

    fn saved_rules(&self) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let list = self.list("rules", &RouteNetlinkMessage::GetRule(message))?;
            found.extend(
                list.into_iter().filter(|(kind, _)| *kind == RTM_NEWRULE).map(|(_, payload)| payload),
            );
        }
        Ok(found)
    }
}

/// What decides about a rule of ours; whatever else there is makes it one that is not plain.
pub(super) fn read(message: &RuleMessage) -> Rule {
    /// What the kernel says where nothing is suppressed.
    const NOTHING: u32 = u32::MAX;
    let header = &message.header;
    let mut rule = Rule {
        priority: 0,
        from: None,
        table: u32::from(header.table),
        plain: header.action == RuleAction::ToTable
            && !header.flags.contains(RuleFlags::Invert)
            && (header.dst_len, header.tos) == (0, 0),
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => rule.priority = *number,
            RuleAttribute::Table(number) => rule.table = *number,
            RuleAttribute::Source(address) => rule.from = IpNet::new(*address, header.src_len).ok(),
            RuleAttribute::Protocol(_) => {}
            RuleAttribute::SuppressPrefixLen(NOTHING) | RuleAttribute::SuppressIfGroup(NOTHING) => {}
            _ => rule.plain = false,
        }
    }
    rule
}

fn protocol(message: &RuleMessage) -> Option<u8> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
        _ => None,
    })
}

/// Whether it has the form of ours, and so is the doing of an agent.
fn is_as_ours(rule: &Rule) -> bool {
    let of_one_address = rule.from.is_some_and(|from| from.prefix_len() == from.max_prefix_len());
    rule.plain && of_one_address && rule.priority == RULE_PRIORITY_BASE.saturating_add(rule.table)
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
