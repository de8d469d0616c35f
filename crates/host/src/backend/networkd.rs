//! systemd.network(5), and systemd.netdev(5) for VLANs.

use std::fmt::Write;

use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};
use multinic_core::{Mtu, Vlan};

use super::{HEADER, Said, ini, link};

/// The text of a NIC's file.
pub fn render(target: &NicTarget) -> String {
    // The name as well as the MAC, since a macvlan or VLAN on the NIC has its MAC.
    let matched = format!("MACAddress={}\nName={}\n", target.mac, target.name);
    let mut text = render_link(&super::options::head(&target.options), &matched, &target.of_nic());
    if let Some(vlan) = target.vlan() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "VLAN={vlan}");
    }
    render_ip(&mut text, &target.of_nic());
    text
}

/// The text of the file of a VLAN.
pub fn render_vlan(target: &NicTarget, vlan: Vlan) -> String {
    let mut text = render_link(HEADER, &format!("Name={vlan}\n"), target);
    render_ip(&mut text, target);
    text
}

/// The text of systemd.netdev(5), by which a VLAN is made.
pub fn render_netdev(target: &NicTarget, vlan: Vlan) -> String {
    format!("{HEADER}[NetDev]\nName={vlan}\nKind=vlan\nMTUBytes={}\n\n[VLAN]\nId={}\n", target.mtu, vlan.id)
}

fn render_link(head: &str, matched: &str, target: &NicTarget) -> String {
    let NicTarget { mac: _, name: _, addresses, mtu, options: _ } = target;
    // Nobody waits for a NIC that was unplugged meanwhile.
    let mut text = format!(
        "{head}\
         [Match]\n\
         {matched}\
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
    text
}

fn render_ip(text: &mut String, target: &NicTarget) {
    // Writing to a string does not fail.
    for net in target.addresses.iter() {
        let _ = match target.options.no_prefix_route {
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
