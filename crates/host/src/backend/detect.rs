//! Which backend a node has: by what is there, then by what runs, then by what its distribution usually has.

use std::path::{Path, PathBuf};

use super::{Backend, netplan};
use crate::files::HostRoot;
use crate::running::Daemon;

/// A backend, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The backend.
    pub backend: Backend,
    /// What speaks for it, for people.
    pub why: String,
    /// The `ID` of the node's os-release(5), or `unknown`.
    pub os_type: String,
}

/// What was asked for, whatever the node has.
pub fn asked_for(root: &HostRoot, backend: Backend) -> Detected {
    let os_type = Distribution::of_node(root.path()).os_type();
    Detected { backend, why: "it is configured".to_owned(), os_type }
}

/// What os-release(5) says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distribution {
    /// `ID`, in lower case; empty where nothing says it.
    pub id: String,
    /// `ID_LIKE`, word by word.
    pub like: Vec<String>,
    /// The first number of `VERSION_ID`.
    pub version: Option<u32>,
}

/// What of a node speaks for a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Signs {
    distribution: Distribution,
    /// A file of netplan's. Its directory alone is no sign: whoever mounts it into a container makes it.
    netplan: bool,
    /// The file by which NetworkManager does the work for netplan.
    over_network_manager: Option<PathBuf>,
    network_manager: bool,
    networkd: bool,
    wicked: bool,
}

/// Looks at a node. systemd's word on what runs is below `/run`; a connection to the bus a process would pay for with memory for
/// as long as it runs.
pub fn detect(root: &HostRoot) -> Detected {
    decide(&Signs {
        distribution: Distribution::of_node(root.path()),
        netplan: root
            .names(Path::new("etc/netplan"))
            .is_ok_and(|names| names.iter().any(|name| name.as_encoded_bytes().ends_with(b".yaml"))),
        over_network_manager: netplan::renderer(root)
            .filter(|(name, _)| name == "NetworkManager")
            .map(|(_, path)| path),
        network_manager: Daemon::NetworkManager.runs(root),
        networkd: Daemon::Networkd.runs(root),
        wicked: Daemon::Wicked.runs(root),
    })
}

fn decide(signs: &Signs) -> Detected {
    let Signs { distribution, netplan, over_network_manager, network_manager, networkd, wicked } = signs;
    let found =
        |backend, why: &str| Detected { backend, why: why.to_owned(), os_type: distribution.os_type() };
    let id = if distribution.id.is_empty() { "this distribution" } else { &distribution.id };
    // netplan would make a profile of our file with the next boot only. With one of our own NetworkManager has the NIC as it is
    // to be at once, and after the boot, too: netplan leaves profiles alone that it did not make.
    if let Some(path) = over_network_manager {
        let said = format!("/{} has NetworkManager do the work for netplan", path.display());
        if *network_manager || !*networkd {
            return found(Backend::NetworkManager, &said);
        }
        // Nobody would read a profile, nor what netplan makes of our file.
        return found(
            Backend::Networkd,
            &format!("{said}, but systemd-networkd runs and NetworkManager does not"),
        );
    }
    if *netplan {
        return found(Backend::Netplan, "there are files in /etc/netplan");
    }
    // Until 8, NetworkManager or the network scripts read these files there.
    if distribution.is_of_red_hat() && distribution.version.is_some_and(|version| version <= 8) {
        return found(Backend::Ifcfg, &format!("{id} up to 8 keeps profiles in /etc/sysconfig"));
    }
    // It takes every NIC that no profile claims, and the others leave alone what no file of theirs names: where several
    // run, it is the one to be told.
    if *network_manager {
        return found(Backend::NetworkManager, "NetworkManager runs");
    }
    if *wicked {
        return found(Backend::Wicked, "wicked runs");
    }
    if *networkd {
        return found(Backend::Networkd, "systemd-networkd runs");
    }
    let (backend, usual) = match distribution.id.as_str() {
        "sles" | "sled" | "opensuse-leap" if distribution.version.is_some_and(|version| version < 16) => {
            (Backend::Wicked, "usually has wicked")
        }
        "sles" | "sled" | "sle-micro" | "sl-micro" | "opensuse-leap" | "opensuse-tumbleweed" | "fedora" => {
            (Backend::NetworkManager, "usually has NetworkManager")
        }
        _ if distribution.is_of_red_hat() => (Backend::NetworkManager, "usually has NetworkManager"),
        "debian" | "flatcar" | "arch" => (Backend::Networkd, "without netplan can have systemd-networkd"),
        _ => (Backend::Netplan, "usually has netplan"),
    };
    found(backend, &format!("no network manager runs, and {id} {usual}"))
}

impl Distribution {
    /// That of the node of this root.
    pub fn of_node(root: &Path) -> Self {
        let text = ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .find_map(|path| std::fs::read_to_string(root.join(path)).ok());
        text.map(|text| Self::read(&text)).unwrap_or_default()
    }

    /// Reads an os-release(5). No text is too strange.
    pub fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let value = value.trim_matches(['"', '\'']).to_lowercase();
            match key {
                "ID" => found.id = value,
                "ID_LIKE" => found.like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_ID" => {
                    found.version = value.split('.').next().and_then(|number| number.parse().ok());
                }
                _ => {}
            }
        }
        found
    }

    /// Its `ID`, or `unknown`.
    pub fn os_type(&self) -> String {
        if self.id.is_empty() { "unknown".to_owned() } else { self.id.clone() }
    }

    /// RHEL and what is built from it. Fedora has other version numbers.
    fn is_of_red_hat(&self) -> bool {
        const IDS: [&str; 7] = ["rhel", "centos", "rocky", "almalinux", "ol", "oracle", "eurolinux"];
        self.id != "fedora"
            && (IDS.contains(&self.id.as_str()) || self.like.iter().any(|like| like == "rhel"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An os-release and what is there, in the words of the cases below.
    fn backend(os_release: &str, there: &[&str]) -> Backend {
        let has = |what: &str| there.contains(&what);
        let signs = Signs {
            distribution: Distribution::read(os_release),
            netplan: has("netplan"),
            over_network_manager: has("renderer").then(|| "etc/netplan/01-all.yaml".into()),
            network_manager: has("NetworkManager"),
            networkd: has("networkd"),
            wicked: has("wicked"),
        };
        decide(&signs).backend
    }

    #[test]
    fn every_distribution_gets_its_own() {
        let centos_7 = "ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n";
        let rocky_8 = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"8.10\"\n";
        let oracle_8 = "ID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"8.9\"\n";
        let rhel_9 = "ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.4\"\n";
        let fedora_8 = "ID=fedora\nVERSION_ID=8\n";
        let sles_15 = "ID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"15.6\"\n";
        let sles_16 = "ID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"16.0\"\n";
        let debian = "ID=debian\nVERSION_ID=\"13\"\n";
        let ubuntu = "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n";
        for (os_release, there, expected) in [
            (ubuntu, &["netplan", "networkd"][..], Backend::Netplan),
            (ubuntu, &["netplan", "NetworkManager"], Backend::Netplan),
            (ubuntu, &["netplan", "renderer", "NetworkManager"], Backend::NetworkManager),
            (ubuntu, &["netplan", "renderer", "NetworkManager", "networkd"], Backend::NetworkManager),
            (ubuntu, &["netplan", "renderer", "networkd"], Backend::Networkd),
            (ubuntu, &["netplan", "renderer"], Backend::NetworkManager),
            (ubuntu, &[], Backend::Netplan),
            (debian, &["netplan", "networkd"], Backend::Netplan),
            (debian, &["networkd"], Backend::Networkd),
            (debian, &["NetworkManager"], Backend::NetworkManager),
            (debian, &["NetworkManager", "networkd"], Backend::NetworkManager),
            (debian, &[], Backend::Networkd),
            (centos_7, &[], Backend::Ifcfg),
            (rocky_8, &["NetworkManager"], Backend::Ifcfg),
            (oracle_8, &["NetworkManager"], Backend::Ifcfg),
            (rhel_9, &["NetworkManager"], Backend::NetworkManager),
            (rhel_9, &[], Backend::NetworkManager),
            (fedora_8, &[], Backend::NetworkManager),
            (sles_15, &["wicked"], Backend::Wicked),
            (sles_15, &[], Backend::Wicked),
            (sles_15, &["NetworkManager"], Backend::NetworkManager),
            (sles_16, &[], Backend::NetworkManager),
            ("ID=flatcar\n", &["networkd"], Backend::Networkd),
            ("", &[], Backend::Netplan),
        ] {
            assert_eq!(backend(os_release, there), expected, "{os_release:?} with {there:?}");
        }
    }

    #[test]
    fn a_node_is_looked_at_below_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        assert_eq!(detect(&root).backend, Backend::Netplan);
        std::fs::create_dir_all(folder.path().join("run/systemd/netif")).unwrap();
        std::fs::write(folder.path().join("run/systemd/netif/state"), "").unwrap();
        assert_eq!(detect(&root).why, "systemd-networkd runs");
        std::fs::create_dir_all(folder.path().join("etc/netplan")).unwrap();
        assert_eq!(detect(&root).why, "systemd-networkd runs");
        std::fs::write(folder.path().join("etc/netplan/50-cloud-init.yaml"), "").unwrap();
        assert_eq!(detect(&root).why, "there are files in /etc/netplan");
        std::fs::write(folder.path().join("etc/netplan/01-all.yaml"), "network: {renderer: NetworkManager}")
            .unwrap();
        let said = "/etc/netplan/01-all.yaml has NetworkManager do the work for netplan";
        let but = "systemd-networkd runs and NetworkManager does not";
        assert_eq!(detect(&root).why, format!("{said}, but {but}"));
        std::fs::create_dir_all(folder.path().join("run/NetworkManager")).unwrap();
        let found = detect(&root);
        assert_eq!((found.backend, found.why.as_str()), (Backend::NetworkManager, said));
        // Both were stopped, and what they made is still there.
        std::fs::create_dir_all(folder.path().join("run/systemd/units")).unwrap();
        std::fs::remove_dir_all(folder.path().join("etc/netplan")).unwrap();
        assert_eq!(detect(&root).why, "no network manager runs, and this distribution usually has netplan");
    }

    proptest! {
        #[test]
        fn no_os_release_is_too_strange(text in ".*") {
            let _ = decide(&Signs { distribution: Distribution::read(&text), ..Signs::default() });
        }
    }
}
