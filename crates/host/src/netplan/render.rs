//! A NIC as the text of its file.

use std::fmt::Write;

use multinic_core::node::NicTarget;

/// The text of a NIC's file.
pub fn render(target: &NicTarget) -> String {
    let NicTarget { mac, name, addresses, mtu } = target;
    // The quotes keep YAML 1.1 readers from taking a MAC of digits for a number in base 60. `optional` keeps the boot from
    // waiting for a NIC that was unplugged meanwhile.
    let mut text = format!(
        "# managed by MultiNIC; what is changed here is set right again\n\
         network:\n\
         \x20 version: 2\n\
         \x20 ethernets:\n\
         \x20   {name}:\n\
         \x20     match:\n\
         \x20       macaddress: \"{mac}\"\n\
         \x20     set-name: {name}\n\
         \x20     dhcp4: false\n\
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
            // Writing to a string does not fail.
            let _ = writeln!(text, "        - \"{net}\"");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use multinic_core::{Addresses, Mtu};

    use super::*;

    fn nic(name: &str, addresses: &[&str], mtu: i64) -> NicTarget {
        NicTarget {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: name.parse().unwrap(),
            addresses: Addresses::parse(addresses.iter().copied()).unwrap(),
            mtu: Mtu::new(mtu).unwrap(),
        }
    }

    #[test]
    fn ipv4() {
        insta::assert_snapshot!(render(&nic("multinic0", &["192.0.2.10/24"], 1450)), @r#"
        # managed by MultiNIC; what is changed here is set right again
        network:
          version: 2
          ethernets:
            multinic0:
              match:
                macaddress: "fa:16:3e:00:00:01"
              set-name: multinic0
              dhcp4: false
              dhcp6: false
              accept-ra: false
              optional: true
              mtu: 1450
              addresses:
                - "192.0.2.10/24"
        "#);
    }

    #[test]
    fn ipv6() {
        insta::assert_snapshot!(render(&nic("multinic1", &["2001:db8::10/64"], 1500)), @r#"
        # managed by MultiNIC; what is changed here is set right again
        network:
          version: 2
          ethernets:
            multinic1:
              match:
                macaddress: "fa:16:3e:00:00:01"
              set-name: multinic1
              dhcp4: false
              dhcp6: false
              accept-ra: false
              optional: true
              mtu: 1500
              addresses:
                - "2001:db8::10/64"
        "#);
    }

    #[test]
    fn both_families_keep_their_order() {
        let target = nic("multinic2", &["2001:db8::10/64", "192.0.2.10/24", "198.51.100.7/31"], 1500);
        insta::assert_snapshot!(render(&target), @r#"
        # managed by MultiNIC; what is changed here is set right again
        network:
          version: 2
          ethernets:
            multinic2:
              match:
                macaddress: "fa:16:3e:00:00:01"
              set-name: multinic2
              dhcp4: false
              dhcp6: false
              accept-ra: false
              optional: true
              mtu: 1500
              addresses:
                - "2001:db8::10/64"
                - "192.0.2.10/24"
                - "198.51.100.7/31"
        "#);
    }

    #[test]
    fn no_address_two_digits_and_jumbo_frames() {
        insta::assert_snapshot!(render(&nic("multinic10", &[], 9000)), @r#"
        # managed by MultiNIC; what is changed here is set right again
        network:
          version: 2
          ethernets:
            multinic10:
              match:
                macaddress: "fa:16:3e:00:00:01"
              set-name: multinic10
              dhcp4: false
              dhcp6: false
              accept-ra: false
              optional: true
              mtu: 9000
              addresses: []
        "#);
    }
}
