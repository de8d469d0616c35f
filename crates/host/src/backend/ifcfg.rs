//! nm-settings-ifcfg-rh(5): a profile of NetworkManager, or of the network scripts, on RHEL and its kin.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};
use multinic_core::options::SourceRouting;
use multinic_core::{Mtu, Vlan};

use super::{HEADER, Said, shell, uuid, uuid_of_vlan};

/// The text of the file of a NIC, or of the VLAN on it.
pub fn render(target: &NicTarget, vlan: Option<Vlan>) -> String {
    let of_nic = target.of_nic();
    let (head, uuid, link, target) = match vlan {
        None => {
            (super::options::head(&target.options), uuid(target), target.name.to_string(), of_nic.as_ref())
        }
        Some(vlan) => (HEADER.to_owned(), uuid_of_vlan(target, vlan), vlan.to_string(), target),
    };
    let NicTarget { mac, name, addresses, mtu, options: _ } = target;
    let kind = match vlan {
        None => format!("TYPE=Ethernet\nHWADDR={mac}\n"),
        Some(vlan) => format!("TYPE=Vlan\nVLAN=yes\nPHYSDEV={name}\nVLAN_ID={}\nREORDER_HDR=yes\n", vlan.id),
    };
    let mut text = format!(
        "{head}\
         DEVICE={link}\n\
         NAME={link}\n\
         UUID={uuid}\n\
         {kind}\
         ONBOOT=yes\n\
         AUTOCONNECT_PRIORITY=999\n\
         MTU={mtu}\n\
         BOOTPROTO=none\n\
         DEFROUTE=no\n"
    );
    let ipv4 = addresses.iter().filter(|net| matches!(net, IpNet::V4(_)));
    for (number, net) in ipv4.enumerate() {
        let number = if number == 0 { String::new() } else { number.to_string() };
        // Writing to a string does not fail.
        let _ = writeln!(text, "IPADDR{number}={}\nPREFIX{number}={}", net.addr(), net.prefix_len());
    }
    let ipv6: Vec<String> =
        addresses.iter().filter(|net| matches!(net, IpNet::V6(_))).map(|net| net.to_string()).collect();
    render_source_routing(&mut text, target);
    if ipv6.is_empty() && mtu.bytes() < 1280 {
        // Too little for IPv6 (RFC 8200).
        text.push_str("IPV6INIT=no\n");
        return text;
    }
    text.push_str("IPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6_DEFROUTE=no\nIPV6_ADDR_GEN_MODE=eui64\n");
    if let Some((first, others)) = ipv6.split_first() {
        let _ = writeln!(text, "IPV6ADDR={first}");
        if !others.is_empty() {
            let _ = writeln!(text, "IPV6ADDR_SECONDARIES=\"{}\"", others.join(" "));
        }
    }
    text
}

/// In the file of the addresses: beside a file of rules, NetworkManager reads no file of routes. The network scripts of
/// before NetworkManager do not know these; there it is the agent that sets them when it starts.
fn render_source_routing(text: &mut String, target: &NicTarget) {
    let Some(own) = target.options.source_routing else { return };
    let rules = target.rules();
    for (family, ipv4) in [("", true), ("6", false)] {
        let rules = rules.iter().filter(|rule| rule.from.addr().is_ipv4() == ipv4);
        for (number, RuleTarget { priority, from, table }) in (1..).zip(rules) {
            let _ = writeln!(
                text,
                "ROUTING_RULE{family}_{number}=\"priority {priority} from {from} table {table}\""
            );
        }
    }
    if target.options.no_prefix_route {
        for (family, ipv4) in [("IPV4", true), ("IPV6", false)] {
            if target.addresses.iter().any(|net| net.addr().is_ipv4() == ipv4) {
                let SourceRouting { table, metric } = own;
                let _ = writeln!(text, "{family}_ROUTE_TABLE={table}\n{family}_ROUTE_METRIC={metric}");
            }
        }
    }
}

/// The text of the routes of one family.
pub fn render_routes(target: &NicTarget, ipv4: bool) -> String {
    let mut text = HEADER.to_owned();
    for route in target.routes().iter().filter(|route| route.destination.addr().is_ipv4() == ipv4) {
        let RouteTarget { table, destination, gateway, metric, source } = route;
        let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let from = source.map(|source| format!(" src {source}")).unwrap_or_default();
        let _ =
            writeln!(text, "{destination}{via} dev {} table {table} metric {metric}{from}", target.ip_name());
    }
    text
}

/// What a file says.
pub fn read(text: &str) -> Said {
    let variables = shell::variables(text);
    let mut addresses = numbered_addresses(&variables, "PREFIX", "");
    let ipv6 = ["IPV6ADDR", "IPV6ADDR_SECONDARIES"].iter().filter_map(|key| variables.get(*key));
    addresses
        .extend(ipv6.flat_map(|value| value.split_whitespace()).filter_map(|net| net.parse::<IpNet>().ok()));
    Said {
        mac: variables.get("HWADDR").and_then(|mac| mac.parse().ok()),
        addresses,
        mtu: variables.get("MTU").and_then(|mtu| Mtu::new(mtu.parse().ok()?).ok()),
        options: None,
    }
}

/// `IPADDR` with `PREFIX…` or `NETMASK`, and the same with a number behind each. The prefix may be behind the address.
pub fn numbered_addresses(variables: &BTreeMap<String, &str>, prefix: &str, separator: &str) -> Vec<IpNet> {
    let numbered = (0..64).map(|number| format!("{separator}{number}"));
    let suffixes = std::iter::once(String::new()).chain(numbered);
    let net = |suffix: String| {
        let value = |key: &str| variables.get(&format!("{key}{suffix}"));
        let address = value("IPADDR")?;
        if let Ok(net) = address.parse() {
            return Some(net);
        }
        let address: IpAddr = address.parse().ok()?;
        if let Some(length) = value(prefix).and_then(|length| length.parse().ok()) {
            return IpNet::new(address, length).ok();
        }
        IpNet::with_netmask(address, value("NETMASK")?.parse().ok()?).ok()
    };
    suffixes.filter_map(net).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (Option<String>, Vec<String>) {
        let said = read(text);
        (said.mac.map(|mac| mac.to_string()), said.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_agents_files_are_read_in_both_cases() {
        for mac in ["fa:16:3e:00:00:01", "FA:16:3E:00:00:01", "\"FA:16:3E:00:00:01\""] {
            let text = format!(
                "DEVICE=multinic0\nNAME=multinic0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\nIPADDR=10.0.0.5\n\
                 PREFIX=24\nMTU=1450\nHWADDR={mac}\n"
            );
            assert_eq!(said(&text), (Some("fa:16:3e:00:00:01".to_owned()), vec!["10.0.0.5/24".to_owned()]));
        }
    }

    #[test]
    fn a_netmask_does_for_a_prefix_and_half_an_address_is_none() {
        let text = "IPADDR=10.0.0.5\nNETMASK=255.255.0.0\nIPADDR1=10.1.0.5\nIPADDR2=x\nPREFIX2=24\nIPADDR3=10.3.0.5\nPREFIX3=99\n";
        assert_eq!(said(text), (None, vec!["10.0.0.5/16".to_owned()]));
    }
}
