//! ifcfg(5) and ifsysctl(5) of wicked, on SLES 15.

use std::fmt::Write;

use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};
use multinic_core::{Mtu, Vlan};

use super::{HEADER, Said, ifcfg, shell};

/// The text of the file of a NIC, or of the VLAN on it. It names no MAC: that is in the udev rule beside it, and `LLADDR` here
/// would set one.
pub fn render(target: &NicTarget, vlan: Option<Vlan>) -> String {
    let of_nic = target.of_nic();
    let (head, target) = match vlan {
        None => (super::options::head(&target.options), of_nic.as_ref()),
        Some(_) => (HEADER.to_owned(), target),
    };
    let NicTarget { mac: _, name, addresses, mtu, options: _ } = target;
    // `hotplug`: the boot does not wait for a NIC that was unplugged meanwhile.
    let mut text = format!("{head}STARTMODE='hotplug'\nBOOTPROTO='static'\nMTU='{mtu}'\n");
    if let Some(vlan) = vlan {
        // Writing to a string does not fail.
        let _ = writeln!(text, "ETHERDEVICE='{name}'\nVLAN_ID='{}'", vlan.id);
    }
    for (number, net) in addresses.iter().enumerate() {
        let suffix = if number == 0 { String::new() } else { format!("_{number}") };
        let _ = writeln!(text, "IPADDR{suffix}='{}'\nPREFIXLEN{suffix}='{}'", net.addr(), net.prefix_len());
    }
    text
}

/// The text of the settings below `/proc/sys` that go with it.
pub fn render_sysctl(target: &NicTarget, vlan: Option<Vlan>) -> String {
    let of_nic = target.of_nic();
    // With a slash first, the dot in the name of a VLAN is one.
    let (separator, target) = if vlan.is_some() { ('/', target) } else { ('.', of_nic.as_ref()) };
    let line = |family: &str, key: &str, value: u32| {
        let s = separator;
        format!("net{s}{family}{s}conf{s}$INTERFACE{s}{key} = {value}\n")
    };
    let settings = target.options.settings().into_iter();
    let ipv4: String = settings.map(|(setting, value)| line("ipv4", setting.key(), value)).collect();
    format!("{HEADER}{}{ipv4}", line("ipv6", "accept_ra", 0))
}

/// The text of the routes: destination, gateway, netmask, interface, type, and options as ip(8) has them.
pub fn render_routes(target: &NicTarget) -> String {
    let mut text = HEADER.to_owned();
    for RouteTarget { table, destination, gateway, metric, source } in target.routes() {
        let via = gateway.map_or_else(|| "-".to_owned(), |gateway| gateway.to_string());
        let from = source.map(|source| format!(" src {source}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{destination} {via} - {} unicast table {table} metric {metric}{from}",
            target.ip_name()
        );
    }
    text
}

/// The text of the rules.
pub fn render_rules(target: &NicTarget) -> String {
    let mut text = HEADER.to_owned();
    for RuleTarget { priority, from, table } in target.rules() {
        let family = if from.addr().is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = writeln!(text, "{family} from {from} lookup {table} pref {priority}");
    }
    text
}

/// What a file says. The older programs had `LLADDR` in it.
pub fn read(text: &str) -> Said {
    let variables = shell::variables(text);
    Said {
        mac: variables.get("LLADDR").and_then(|mac| mac.parse().ok()),
        addresses: ifcfg::numbered_addresses(&variables, "PREFIXLEN", "_"),
        mtu: variables.get("MTU").and_then(|mtu| Mtu::new(mtu.parse().ok()?).ok()),
        options: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_agents_files_are_read() {
        let said = read("STARTMODE=auto\nBOOTPROTO=none\nLLADDR=FA:16:3E:00:00:01\nMTU=1500\n");
        assert_eq!(said.mac.unwrap().to_string(), "fa:16:3e:00:00:01");
        assert_eq!((said.addresses.len(), said.mtu.unwrap().bytes()), (0, 1500));
        let said =
            read("STARTMODE='auto'\nIPADDR='10.0.0.5/24'\nIPADDR_1='10.0.1.5'\nNETMASK_1='255.255.255.0'\n");
        assert_eq!(said.addresses.len(), 2);
    }
}
