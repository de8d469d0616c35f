//! ifcfg(5) and ifsysctl(5) of wicked, on SLES 15.

use std::fmt::Write;

use multinic_core::Mtu;
use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};

use super::{HEADER, Said, ifcfg, shell};

/// The text of a NIC's file. It names no MAC: that is in the udev rule beside it, and `LLADDR` here would set one.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac: _, name: _, addresses, mtu, options } = target;
    let head = super::options::head(options);
    // `hotplug`: the boot does not wait for a NIC that was unplugged meanwhile.
    let mut text = format!("{head}STARTMODE='hotplug'\nBOOTPROTO='static'\nMTU='{mtu}'\n");
    for (number, net) in addresses.iter().enumerate() {
        let suffix = if number == 0 { String::new() } else { format!("_{number}") };
        // Writing to a string does not fail.
        let _ = writeln!(text, "IPADDR{suffix}='{}'\nPREFIXLEN{suffix}='{}'", net.addr(), net.prefix_len());
    }
    text
}

/// The text of the settings below `/proc/sys` that go with it.
pub fn render_sysctl(target: &NicTarget) -> String {
    let mut text = format!("{HEADER}net.ipv6.conf.$INTERFACE.accept_ra = 0\n");
    for (setting, value) in target.options.settings() {
        let _ = writeln!(text, "net.ipv4.conf.$INTERFACE.{} = {value}", setting.key());
    }
    text
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
            target.name
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
