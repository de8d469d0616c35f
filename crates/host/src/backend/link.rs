//! systemd.link(5): the name that udev gives a NIC.

use multinic_core::node::NicTarget;

use super::{HEADER, Said, ini};

/// A link that is made of others repeats the MAC of one of them, and must not be given its name. Older versions of systemd
/// (before 251) do not know `Kind=` and pass over it; `Type=` they know, but not the exclamation mark.
const NOT_STACKED: &str = "Kind=!bridge bond team vlan macvlan macvtap ipvlan ipvtap vrf\n";

/// The text of a NIC's file.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac, name, addresses: _, mtu: _, options: _ } = target;
    format!("{HEADER}[Match]\nMACAddress={mac}\n{NOT_STACKED}\n[Link]\nName={name}\n")
}

/// What a file says.
pub fn read(text: &str) -> Said {
    Said { mac: mac(text), ..Said::default() }
}

/// The first MAC address of `[Match]`.
pub fn mac(text: &str) -> Option<multinic_core::MacAddr> {
    ini::lines(text)
        .filter(|line| line.section == "Match" && matches!(line.key, "MACAddress" | "PermanentMACAddress"))
        .flat_map(|line| line.value.split_whitespace())
        .find_map(|mac| mac.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agents_files_are_read() {
        let text = "[Match]\nMACAddress=FA:16:3E:00:00:01\n\n[Link]\nName=multinic0\n";
        assert_eq!(read(text).mac.unwrap().to_string(), "fa:16:3e:00:00:01");
        assert_eq!(read("[Link]\nMACAddress=fa:16:3e:00:00:01\n").mac, None);
    }
}
