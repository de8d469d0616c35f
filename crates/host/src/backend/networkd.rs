//! systemd.network(5).

use std::fmt::Write;

use multinic_core::Mtu;
use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};

use super::{Said, ini, link};

/// The text of a NIC's file.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac, name, addresses, mtu, options } = target;
    let head = super::options::head(options);
    // The name as well as the MAC, since a macvlan or VLAN on the NIC has its MAC. Nobody waits for a NIC that was unplugged
    // meanwhile.
    let mut text = format!(
        "{head}\
         [Match]\n\
         MACAddress={mac}\n\
         Name={name}\n\
         \n\
         [Link]\n\
         MTUBytes={mtu}\n\
         RequiredForOnline=no\n\
         \n\
         [Network]\n\
         DHCP=no\n\
         IPv6AcceptRA=no\n"
    );
    if mtu.bytes() < 1280 && !addresses.has_ipv6() {
        // networkd raises the MTU to what IPv6 needs (RFC 8200) where there is any.
        text.push_str("LinkLocalAddressing=no\n");
    }
    // Writing to a string does not fail.
    for net in addresses.iter() {
        let _ = match options.no_prefix_route {
            false => writeln!(text, "Address={net}"),
            true => writeln!(text, "\n[Address]\nAddress={net}\nAddPrefixRoute=no"),
        };
    }
    for RouteTarget { table, destination, gateway, metric, source } in target.routes() {
        let _ = writeln!(text, "\n[Route]\nDestination={destination}\nTable={table}\nMetric={metric}");
        let _ = match gateway {
            Some(gateway) => writeln!(text, "Gateway={gateway}"),
            None if destination.addr().is_ipv4() => writeln!(text, "Scope=link"),
            None => Ok(()),
        };
        if let Some(source) = source {
            let _ = writeln!(text, "PreferredSource={source}");
        }
    }
    for RuleTarget { priority, from, table } in target.rules() {
        let _ = writeln!(text, "\n[RoutingPolicyRule]\nFrom={from}\nTable={table}\nPriority={priority}");
    }
    text
}

/// What a file says.
pub fn read(text: &str) -> Said {
    let mut said = Said { mac: link::mac(text), ..Said::default() };
    for line in ini::lines(text) {
        match (line.section, line.key) {
            ("Network" | "Address", "Address") => said.addresses.extend(line.value.parse::<ipnet::IpNet>()),
            ("Link", "MTUBytes") => said.mtu = line.value.parse().ok().and_then(|mtu| Mtu::new(mtu).ok()),
            _ => {}
        }
    }
    said
}
