//! A NIC as the text of its file.

use std::fmt::Write;

use multinic_core::node::NicTarget;
use multinic_core::node::routing::{RouteTarget, RuleTarget};

use crate::backend::options;

/// The text of a NIC's file, with the VLAN on it.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac, name, addresses: _, mtu: _, options } = target;
    let head = options::head(options);
    // The quotes keep YAML 1.1 readers from taking a MAC of digits for a number in base 60. `optional` keeps the boot from
    // waiting for a NIC that was unplugged meanwhile.
    let mut text = format!(
        "{head}\
         network:\n\
         \x20 version: 2\n\
         \x20 ethernets:\n\
         \x20   {name}:\n\
         \x20     match:\n\
         \x20       macaddress: \"{mac}\"\n\
         \x20     set-name: {name}\n"
    );
    render_link(&mut text, &target.of_nic());
    if let Some(vlan) = target.vlan() {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\x20 vlans:\n\
             \x20   {vlan}:\n\
             \x20     id: {}\n\
             \x20     link: {name}\n",
            vlan.id
        );
        render_link(&mut text, target);
    }
    text
}

fn render_link(text: &mut String, target: &NicTarget) {
    let NicTarget { mac: _, name: _, addresses, mtu, options: _ } = target;
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\x20     dhcp4: false\n\
         \x20     dhcp6: false\n\
         \x20     accept-ra: false\n\
         \x20     optional: true\n\
         \x20     mtu: {mtu}\n"
    );
    if addresses.is_empty() {
        text.push_str("      addresses: []\n");
    } else {
        text.push_str("      addresses:\n");
        for net in addresses.iter() {
            let _ = writeln!(text, "        - \"{net}\"");
        }
    }
    let routes = target.routes();
    if !routes.is_empty() {
        text.push_str("      routes:\n");
    }
    for RouteTarget { table, destination, gateway, metric, source } in routes {
        let _ = writeln!(text, "        - to: \"{destination}\"");
        let _ = match gateway {
            Some(gateway) => writeln!(text, "          via: \"{gateway}\""),
            None => writeln!(text, "          scope: link"),
        };
        let _ = writeln!(text, "          table: {table}\n          metric: {metric}");
        if let Some(source) = source {
            let _ = writeln!(text, "          from: \"{source}\"");
        }
    }
    let rules = target.rules();
    if !rules.is_empty() {
        text.push_str("      routing-policy:\n");
    }
    for RuleTarget { priority, from, table } in rules {
        let _ = writeln!(
            text,
            "        - from: \"{from}\"\n          table: {table}\n          priority: {priority}"
        );
    }
}
