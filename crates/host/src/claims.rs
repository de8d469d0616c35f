//! What a file of somebody else says of NICs.

use std::collections::BTreeMap;

use multinic_core::node::doctor::{Claim, Means};
use serde::Deserialize;

use crate::backend::{ini, shell};

/// Reads a file, by its name as one of netplan, networkd, NetworkManager or the network scripts. No text is too strange.
pub fn read(path: &str, text: &str) -> Vec<Claim> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        _ if name.starts_with("ifcfg-") => of_ifcfg(path, text).into_iter().collect(),
        Some((_, "yaml")) => of_netplan(path, text),
        Some((_, "network")) => of_network(path, text),
        Some((_, "nmconnection")) => of_keyfile(path, text).into_iter().collect(),
        _ => Vec::new(),
    }
}

#[derive(Deserialize)]
struct Document {
    network: Option<Network>,
}

#[derive(Deserialize)]
struct Network {
    /// Among the NICs there may be a `renderer` for all of them.
    #[serde(default)]
    ethernets: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Nic(Ethernet),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Ethernet {
    #[serde(rename = "match")]
    matched: Option<Match>,
    dhcp4: Option<bool>,
    dhcp6: Option<bool>,
}

#[derive(Deserialize)]
struct Match {
    macaddress: Option<String>,
    name: Option<serde_json::Value>,
}

fn of_netplan(path: &str, text: &str) -> Vec<Claim> {
    let Ok(Document { network: Some(network) }) = serde_saphyr::from_str(text) else { return Vec::new() };
    let nics = network.ethernets.into_iter().filter_map(|(id, entry)| match entry {
        Entry::Nic(ethernet) => Some((id, ethernet)),
        Entry::Other(_) => None,
    });
    let claims = nics.flat_map(|(id, ethernet)| {
        let dhcp = ethernet.dhcp4 == Some(true) || ethernet.dhcp6 == Some(true);
        let means = match ethernet.matched {
            None => vec![Means::Names(id)],
            Some(Match { macaddress: Some(mac), .. }) => {
                mac.trim().parse().map(Means::Mac).into_iter().collect()
            }
            Some(Match { name, .. }) => names(name.as_ref()).into_iter().map(Means::Names).collect(),
        };
        means.into_iter().map(move |means| (means, dhcp))
    });
    claims.map(|(means, dhcp)| claim(path, means, dhcp)).collect()
}

/// A pattern, or several.
fn names(value: Option<&serde_json::Value>) -> Vec<String> {
    match value {
        Some(serde_json::Value::String(name)) => vec![name.clone()],
        Some(serde_json::Value::Array(list)) => {
            list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        }
        // Without a name and a MAC it matches everything.
        _ => vec!["*".to_owned()],
    }
}

fn of_network(path: &str, text: &str) -> Vec<Claim> {
    let dhcp = ini::lines(text).any(|line| {
        line.section == "Network" && line.key == "DHCP" && !matches!(line.value, "no" | "false" | "0" | "off")
    });
    let mut means = Vec::new();
    for line in ini::lines(text).filter(|line| line.section == "Match") {
        let words = line.value.split_whitespace();
        match line.key {
            "MACAddress" | "PermanentMACAddress" => {
                means.extend(words.filter_map(|word| word.parse().ok()).map(Means::Mac));
            }
            "Name" => means.extend(words.map(|word| Means::Names(word.to_owned()))),
            _ => {}
        }
    }
    let every_nic =
        ini::lines(text).any(|line| (line.section, line.key, line.value) == ("Match", "Type", "ether"));
    if means.is_empty() && every_nic {
        means.push(Means::Names("*".to_owned()));
    }
    // With both, only NICs of that MAC are meant.
    if means.iter().any(|means| matches!(means, Means::Mac(_))) {
        means.retain(|means| matches!(means, Means::Mac(_)));
    }
    means.into_iter().map(|means| claim(path, means, dhcp)).collect()
}

fn of_keyfile(path: &str, text: &str) -> Option<Claim> {
    let value = |section: &str, key: &str| {
        ini::lines(text).find(|line| line.section == section && line.key == key).map(|line| line.value)
    };
    let mac = value("ethernet", "mac-address").or_else(|| value("802-3-ethernet", "mac-address"))?;
    let dhcp = value("ipv4", "method") == Some("auto") || value("ipv6", "method") == Some("auto");
    Some(claim(path, Means::Mac(mac.parse().ok()?), dhcp))
}

fn of_ifcfg(path: &str, text: &str) -> Option<Claim> {
    let variables = shell::variables(text);
    let mac = variables.get("HWADDR").or_else(|| variables.get("LLADDR"))?;
    let dhcp = variables.get("BOOTPROTO").is_some_and(|how| how.starts_with("dhcp"));
    Some(claim(path, Means::Mac(mac.parse().ok()?), dhcp))
}

fn claim(path: &str, means: Means, dhcp: bool) -> Claim {
    Claim { path: path.to_owned(), means, dhcp }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_file_is_too_strange(text in "[^\0]*") {
            for name in ["a.yaml", "a.network", "a.nmconnection", "ifcfg-a"] {
                let _ = read(name, &text);
            }
        }
    }
}
