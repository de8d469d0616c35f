//! What a guest's own network manager says of a NIC of ours.

use std::net::IpAddr;

use ipnet::IpNet;
use multinic_core::{InterfaceName, MacAddr};
use serde_json::{Value, json};

use super::Guest;

/// A NIC that a manager is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its name.
    pub name: InterfaceName,
    /// What it is to have.
    pub addresses: &'a [IpNet],
    /// Whether the guest has booted since its files were written. A manager that leaves the link alone until then agrees.
    pub booted: bool,
}

impl Guest {
    /// What the guest's network manager says of a NIC that is not as it should be: that it has it by somebody else's
    /// configuration, has a lease on it, or does not have it; none if it agrees.
    pub fn disagreement(&self, asked: Asked<'_>) -> Option<String> {
        let said = if self.rootfs().network().has_network_manager() {
            self.ask_network_manager(asked)
        } else {
            self.ask_networkd(asked)
        };
        said.err()
    }

    fn ask_networkd(&self, Asked { mac: _, name, addresses, booted }: Asked<'_>) -> Result<(), String> {
        let text = self.run("networkctl", &["--json=short", "status", &name.to_string()]);
        let text = text.map_err(|error| error.to_string())?;
        let link: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let listed = link.get("Addresses").and_then(Value::as_array).cloned().unwrap_or_default();
        let is = |address: &Value, key: &str, value: &Value| address.get(key) == Some(value);
        let by_others = listed.iter().any(|address| {
            ["DHCPv4", "DHCPv6", "NDisc"].iter().any(|source| is(address, "ConfigSource", &json!(source)))
        });
        let file = link.get("NetworkFile").and_then(Value::as_str).unwrap_or_default();
        let state = link.get("AdministrativeState").and_then(Value::as_str).unwrap_or_default();
        let ours = state == "configured" && file.contains(&name.to_string());
        let has = |net: &IpNet| {
            let bytes = match net.addr() {
                IpAddr::V4(address) => json!(address.octets()),
                IpAddr::V6(address) => json!(address.octets()),
            };
            listed.iter().any(|address| {
                is(address, "Address", &bytes)
                    && is(address, "PrefixLength", &json!(net.prefix_len()))
                    && (!booted || is(address, "ConfigSource", &json!("static")))
            })
        };
        let agrees = !by_others && addresses.iter().all(has) && (ours || (!booted && state == "unmanaged"));
        if agrees { Ok(()) } else { Err(format!("networkd: {state} by {file:?}, {listed:?}")) }
    }

    /// What the guest's network manager is still to do with a link that was given a carrier, or lost it; none if it is done.
    pub fn unsettled(&self, name: InterfaceName, carrier: bool) -> Option<String> {
        let name = name.to_string();
        let ask = |program: &str, arguments: &[&str]| {
            self.run(program, arguments).unwrap_or_else(|error| error.to_string())
        };
        if self.rootfs().network().has_network_manager() {
            let said = ask("nmcli", &["--get-values", "GENERAL.STATE", "device", "show", &name]);
            // 100: connected; 20: unavailable, as without a carrier, where it waits some seconds for one first.
            return (carrier && !said.starts_with("100 ")).then_some(said);
        }
        let text = ask("networkctl", &["--json=short", "status", &name]);
        let link: Value = serde_json::from_str(&text).unwrap_or_default();
        let of = |key: &str| link.get(key).and_then(Value::as_str).unwrap_or_default();
        let seen = of("CarrierState") == if carrier { "carrier" } else { "no-carrier" };
        let done = !carrier || ["configured", "unmanaged"].contains(&of("AdministrativeState"));
        (!seen || !done).then(|| format!("networkd: {} {}", of("CarrierState"), of("AdministrativeState")))
    }

    fn ask_network_manager(
        &self,
        Asked { mac, name, addresses, booted: _ }: Asked<'_>,
    ) -> Result<(), String> {
        let name = name.to_string();
        let fields = "GENERAL.STATE,GENERAL.CON-UUID,IP4.ADDRESS,IP6.ADDRESS";
        let show = |fields: &str| {
            self.run("nmcli", &["--escape", "no", "--get-values", fields, "device", "show", &name])
                .map_err(|error| error.to_string())
        };
        let said = show(fields)?;
        let lease = show("DHCP4,DHCP6")?;
        let profile = mac.to_string().replace(':', "");
        let agrees = said.starts_with("100 ")
            && said.lines().nth(1).is_some_and(|uuid| uuid.ends_with(&profile))
            && addresses.iter().all(|net| said.contains(&net.to_string()))
            && lease.trim().is_empty();
        if agrees { Ok(()) } else { Err(format!("NetworkManager: {said:?}, lease {lease:?}")) }
    }
}
