//! ifcfg(5) and ifsysctl(5) of wicked, on SLES 15.

use std::fmt::Write;

use multinic_core::Mtu;
use multinic_core::node::NicTarget;

use super::{HEADER, Said, ifcfg, shell};

/// The text of a NIC's file. It names no MAC: that is in the udev rule beside it, and `LLADDR` here would set one.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac: _, name: _, addresses, mtu } = target;
    // `hotplug`: the boot does not wait for a NIC that was unplugged meanwhile.
    let mut text = format!("{HEADER}STARTMODE='hotplug'\nBOOTPROTO='static'\nMTU='{mtu}'\n");
    for (number, net) in addresses.iter().enumerate() {
        let suffix = if number == 0 { String::new() } else { format!("_{number}") };
        // Writing to a string does not fail.
        let _ = writeln!(text, "IPADDR{suffix}='{}'\nPREFIXLEN{suffix}='{}'", net.addr(), net.prefix_len());
    }
    text
}

/// The text of the settings below `/proc/sys` that go with it.
pub fn render_sysctl() -> String {
    format!("{HEADER}net.ipv6.conf.$INTERFACE.accept_ra = 0\n")
}

/// What a file says. The older programs had `LLADDR` in it.
pub fn read(text: &str) -> Said {
    let variables = shell::variables(text);
    Said {
        mac: variables.get("LLADDR").and_then(|mac| mac.parse().ok()),
        addresses: ifcfg::numbered_addresses(&variables, "PREFIXLEN", "_"),
        mtu: variables.get("MTU").and_then(|mtu| Mtu::new(mtu.parse().ok()?).ok()),
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
