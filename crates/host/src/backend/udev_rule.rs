//! udev(7): the name of a NIC, where links are named by rules.

use multinic_core::node::NicTarget;

use super::{HEADER, Said};

/// The text of a NIC's file, in the form of `70-persistent-net.rules`. A link that is made of others has no driver.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac, name, addresses: _, mtu: _, options: _ } = target;
    format!(
        "{HEADER}SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{{address}}==\"{mac}\", \
         ATTR{{dev_id}}==\"0x0\", ATTR{{type}}==\"1\", NAME=\"{name}\"\n"
    )
}

/// What a file says.
pub fn read(text: &str) -> Said {
    let rules = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let address = rules.filter_map(|line| line.split_once("ATTR{address}==\"")?.1.split_once('"'));
    Said { mac: address.filter_map(|(mac, _)| mac.parse().ok()).next(), ..Said::default() }
}
