//! Writes a corpus to begin with for each fuzz target, from the project's own golden files and samples: `SEEDS=FOLDER seeds -runs=0`.
//! It is a target too, because whatever is built with the counters needs libFuzzer beside it.

#![no_main]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use multinic_api::desired_nic::desired_nic;
use multinic_core::desired::EntryId;
use multinic_core::node::{NicTarget, OwnedNic};
use multinic_host::backend::places::{self, Kind};
use multinic_host::files::{FileCopy, HostRoot};
use multinic_host::journal::{Entry, FileBefore};
use multinic_host::state::State;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fuzz_target!(init: write().unwrap(), |_data: &[u8]| {});

fn write() -> Outcome {
    let corpus = Corpus(std::env::var_os("SEEDS").ok_or("SEEDS is not set")?.into());
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    rendered_files(&corpus, &project.join("crates/host/src/backend/snapshots"))?;
    answers(&corpus, &project.join("crates/openstack/tests/samples"))?;
    of_the_agent(&corpus)?;
    texts(&corpus)
}

struct Corpus(PathBuf);

impl Corpus {
    fn add(&self, target: &str, name: &str, content: impl AsRef<[u8]>) -> Outcome {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(format!("seed-{name}")), content)?)
    }
}

fn files(folder: &Path) -> Outcome<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, fs::read_to_string(&path)?));
    }
    Ok(found)
}

/// Snapshots have several files each, behind lines of the form `== PATH MODE`.
fn rendered_files(corpus: &Corpus, folder: &Path) -> Outcome {
    for (name, snapshot) in files(folder)? {
        for part in snapshot.split("\n== ").skip(1) {
            let (head, text) = part.split_once('\n').ok_or("a snapshot without content")?;
            let (path, _) = head.split_once(' ').ok_or("a snapshot without a mode")?;
            let (kind, _) = places::known(Path::new(path)).ok_or_else(|| format!("{path} is not ours"))?;
            let target = match kind {
                Kind::Netplan => "netplan",
                Kind::Link => "systemd_link",
                Kind::Network => "systemd_network",
                Kind::Keyfile => "keyfile",
                Kind::Ifcfg => "ifcfg",
                Kind::Wicked => "wicked",
                Kind::Rule => "udev_rule",
                // Nothing of these is read but the line of the options, which every main file has.
                Kind::WickedSysctl | Kind::Sysctl | Kind::Routes | Kind::Routes6 => continue,
                Kind::WickedRoutes | Kind::WickedRules | Kind::Netdev => continue,
            };
            corpus.add(target, &name, text)?;
        }
    }
    Ok(())
}

/// Samples have a status beside the body.
fn answers(corpus: &Corpus, folder: &Path) -> Outcome {
    for (name, sample) in files(folder)? {
        let mut sample: Value = serde_json::from_str(&sample)?;
        let body = sample["body"].take();
        match name.as_str() {
            "token" => corpus.add("openstack_token", &name, body.to_string())?,
            "ports" => corpus.add("openstack_ports", &name, body.to_string())?,
            "networks" => corpus.add("openstack_networks", &name, body.to_string())?,
            "subnets-by-id" | "subnets-by-name" => {
                corpus.add("openstack_subnets", &name, body.to_string())?
            }
            "server" => {
                corpus.add("openstack_servers", &name, json!({"servers": [body["server"]]}).to_string())?;
            }
            _ => corpus.add("openstack_failure", &name, body.to_string())?,
        }
    }
    let attributes = json!({"adminId": "admin", "adminPw": "bm90IGVuY3J5cHRlZCBhdCBhbGwsIGJ1dCA0OCBieXRlcyBsb25nLi4uLi4uLi4u", "domain": "default"});
    let provider =
        json!({"returnCode": "OK", "data": {"url": "http://keystone:5000/v3", "attributes": attributes}});
    corpus.add("contrabass_provider", "provider", provider.to_string())
}

/// What an agent has read, and what it writes about itself.
fn of_the_agent(corpus: &Corpus) -> Outcome {
    let interface = json!({
        "id": 3, "name": "multinic3", "macAddress": "FA:16:3E:00:00:01", "mtu": 1450, "address": "192.0.2.10",
        "cidr": "192.0.2.0/24", "addresses": ["192.0.2.10/24", "2001:db8::10/64"],
        "options": {
            "rpFilter": "loose", "noPrefixRoute": true, "sourceRouting": {"enabled": true, "tableBase": 300},
            "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}, {"to": "::/0", "via": "fe80::1", "metric": 7}],
        },
    });
    let spec = json!({"nodeName": "n", "instanceId": "83b5e610-df7e-4291-b472-6597b48f4148", "interfaces": [interface]});
    corpus.add("node_config", "options", spec.to_string())?;
    let nic = desired_nic(EntryId(0), 1, &interface)?;
    let slot = nic.slot.ok_or("no slot")?;
    let (mac, mtu, options) = (nic.mac, nic.mtu, nic.options.resolve(slot));
    let target = NicTarget { mac, name: slot.interface(), addresses: nic.addresses, mtu, options };

    let folder = tempfile::tempdir()?;
    let mut state = State::default();
    let owned =
        OwnedNic { target: target.clone(), original_name: "ens5".to_owned(), original_mtu: Some(1500) };
    state.owned.insert(mac, owned);
    state.made.insert(mac, 7);
    state.save(&HostRoot::open(folder.path())?, None)?;
    corpus.add("state", "one", fs::read(folder.path().join("var/lib/multinic/state.json"))?)?;

    let mut entry = Entry::new(mac, 7, "0123".to_owned(), Some(target.clone()));
    entry.touched = target.addresses.iter().collect();
    entry.touched_routes = target.routes();
    let content = Some(FileCopy::private(b"text".to_vec()).into());
    entry.files.push(FileBefore { path: "etc/netplan/93-multinic3.yaml".into(), content, written: None });
    let mut entry = serde_json::to_value(&entry)?;
    corpus.add("journal", "files", entry.to_string())?;
    // A default route of IPv4 and an address, in the kernel's own words.
    let route =
        "0200000000fe03000100000008000f00fe000000080005000a000001080004000200000008000600640000000000";
    let address = "02180080020000000800010ac00002080002000a000002";
    entry["link"] = json!({
        "index": 2, "name": "ens5", "mtu": 1500, "up": true, "altnames": ["enp0s5"], "accept_ra": "1",
        "addresses": [{"net": "192.0.2.10/24", "dynamic": false, "saved": address}],
        "routes": [{"destination": "0.0.0.0/0", "saved": route}],
    });
    corpus.add("journal", "link", entry.to_string())?;
    for (kind, header) in [(16_u16, 16), (20, 8), (24, 12), (32, 12), (80, 4)] {
        // A message with one attribute of four bytes.
        let mut message = (16_u32 + header + 8).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(16 + header as usize, 0);
        message.extend([8, 0, 1, 0, 2, 0, 0, 0]);
        corpus.add("netlink", &kind.to_string(), message)?;
    }
    Ok(())
}

fn texts(corpus: &Corpus) -> Outcome {
    corpus.add(
        "os_release",
        "rocky",
        "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"8.10\"\n",
    )?;
    corpus.add("os_release", "debian", "ID=debian\nVERSION_ID='13'\n")?;
    corpus.add(
        "netplan_renderer",
        "desktop",
        "network:\n  version: 2\n  renderer: NetworkManager\n  ethernets:\n    eth0: {dhcp4: true, renderer: networkd}\n",
    )?;
    corpus.add(
        "networkd",
        "state",
        "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n\
         NETWORK_FILE=/run/systemd/network/10-netplan-eth0.network\n",
    )?;
    corpus.add(
        "networkd",
        "file",
        "[Match]\nType=ether\nName=en* !eth? multinic[0-9]\n[Network]\nDHCP=yes\n",
    )?;
    corpus.add(
        "database_row",
        "both",
        "FA:16:3E:00:00:01\n[\"192.0.2.10/24\",\"2001:db8::10/64\"]\n192.0.2.10\n192.0.2.0/24\nmultinic3\n1450\n3\n",
    )?;
    corpus.add(
        "openstack_failure",
        "page",
        "<html><head><title>502</title></head><body>kept-to-oneself &amp; more</body></html>",
    )
}
