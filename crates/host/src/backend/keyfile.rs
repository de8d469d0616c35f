//! nm-settings-keyfile(5): a connection profile of NetworkManager.

use std::fmt::Write;

use ipnet::IpNet;
use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};
use multinic_core::options::SourceRouting;
use multinic_core::{Mtu, Vlan};

use super::{HEADER, Said, ini, uuid, uuid_of_vlan};

/// The text of the file of a NIC, or of the VLAN on it.
pub fn render(target: &NicTarget, vlan: Option<Vlan>) -> String {
    let of_nic = target.of_nic();
    let (head, uuid, name, target) = match vlan {
        None => {
            (super::options::head(&target.options), uuid(target), target.name.to_string(), of_nic.as_ref())
        }
        Some(vlan) => (HEADER.to_owned(), uuid_of_vlan(target, vlan), vlan.to_string(), target),
    };
    let NicTarget { mac, name: parent, addresses: _, mtu, options: _ } = target;
    let kind = if vlan.is_some() { "vlan" } else { "ethernet" };
    // The priority is the highest, so that no profile for every NIC is preferred to this one.
    let mut text = format!(
        "{head}\
         [connection]\n\
         id={name}\n\
         uuid={uuid}\n\
         type={kind}\n\
         interface-name={name}\n\
         autoconnect-priority=999\n\
         \n\
         [ethernet]\n"
    );
    // Writing to a string does not fail.
    let _ = match vlan {
        None => writeln!(text, "mac-address={mac}\nmtu={mtu}"),
        // The flag is the kernel's own choice: the tag is no part of what is received (`REORDER_HDR`).
        Some(vlan) => writeln!(text, "mtu={mtu}\n\n[vlan]\nflags=1\nid={}\nparent={parent}", vlan.id),
    };
    // As the kernel does by itself: a link-local address, and none where the MTU is too small for IPv6 (RFC 8200).
    let without_ipv6 = if mtu.bytes() < 1280 { "disabled" } else { "link-local" };
    family(&mut text, target, true, "disabled");
    family(&mut text, target, false, without_ipv6);
    text.push_str("addr-gen-mode=eui64\n");
    text
}

fn family(text: &mut String, target: &NicTarget, ipv4: bool, without: &str) {
    let (section, no_gateway) = if ipv4 { ("ipv4", "0.0.0.0") } else { ("ipv6", "::") };
    let of_family = |net: &IpNet| net.addr().is_ipv4() == ipv4;
    let mut addresses = target.addresses.iter().filter(of_family).peekable();
    // The routes that it makes for addresses are in this table too.
    let own = target.options.source_routing;
    let own = own.filter(|_| target.options.no_prefix_route && addresses.peek().is_some());
    let method = if addresses.peek().is_some() { "manual" } else { without };
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n[{section}]\nmethod={method}");
    for (number, net) in (1..).zip(addresses) {
        let _ = writeln!(text, "address{number}={net}");
    }
    let routes = target.routes().into_iter().filter(|route| of_family(&route.destination));
    for (number, RouteTarget { table, destination, gateway, metric, source }) in (1..).zip(routes) {
        let via = gateway.map_or_else(|| no_gateway.to_owned(), |gateway| gateway.to_string());
        let from = source.map(|source| format!(",src={source}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "route{number}={destination},{via},{metric}\nroute{number}_options=table={table}{from}"
        );
    }
    let rules = target.rules().into_iter().filter(|rule| of_family(&rule.from));
    for (number, RuleTarget { priority, from, table }) in (1..).zip(rules) {
        let _ = writeln!(text, "routing-rule{number}=priority {priority} from {from} table {table}");
    }
    if let Some(SourceRouting { table, metric }) = own {
        let _ = writeln!(text, "route-table={table}\nroute-metric={metric}");
    }
    text.push_str("never-default=true\n");
}

/// What a file says.
pub fn read(text: &str) -> Said {
    let mut said = Said::default();
    for line in ini::lines(text) {
        match line.section {
            "ethernet" | "802-3-ethernet" => match line.key {
                "mac-address" => said.mac = line.value.parse().ok(),
                "mtu" => said.mtu = line.value.parse().ok().and_then(|mtu| Mtu::new(mtu).ok()),
                _ => {}
            },
            "ipv4" | "ipv6" if is_address(line.key) => {
                // An older form has the gateway behind the address.
                let address = line.value.split(',').next().unwrap_or_default();
                said.addresses.extend(address.parse::<IpNet>());
            }
            _ => {}
        }
    }
    said
}

/// `address1`, `address2`, … and their older form `addresses1`, ….
fn is_address(key: &str) -> bool {
    let number = key.strip_prefix("address").map(|rest| rest.strip_prefix("es").unwrap_or(rest));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agents_files_are_read() {
        let text = "[connection]\nid=multinic0\ntype=ethernet\ninterface-name=multinic0\nautoconnect=true\n\n\
                    [ethernet]\nmac-address=fa:16:3e:00:00:01\nmtu=1450\n\n[ipv4]\nmethod=manual\n\
                    address1=10.0.0.5/24\nroute-table=100\nroute1=10.0.0.0/24,,100\n\
                    routing-rules=priority 10100 from 10.0.0.5/32 table 100\nnever-default=true\n\n\
                    [ipv6]\nmethod=ignore\n";
        let said = read(text);
        assert_eq!(said.mac.unwrap().to_string(), "fa:16:3e:00:00:01");
        assert_eq!(said.addresses, ["10.0.0.5/24".parse::<IpNet>().unwrap()]);
        assert_eq!(said.mtu.unwrap().bytes(), 1450);
    }

    #[test]
    fn a_gateway_behind_an_address_is_not_part_of_it() {
        let said = read("[ipv4]\naddress1=10.0.0.5/24,10.0.0.1\naddresses2=10.0.1.5/24\naddress-data=x\n");
        assert_eq!(said.addresses.len(), 2);
    }
}
