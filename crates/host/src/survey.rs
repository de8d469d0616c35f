//! What of a node, beside its links, decides what becomes of NICs of ours: the other programs that configure networks, and
//! what their files say. Nothing is changed, and what cannot be read is passed over: it stands in nobody's way.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use multinic_core::node::doctor::{Claim, Kubelet, Missing, NetworkManager, Networkd, Setting, Survey};
use multinic_core::node::{NicTarget, observed};

use crate::backend::{Backend, ini, netplan, places};
use crate::claims;
use crate::error::HostError;
use crate::files::{FileCopy, HostRoot};
use crate::hindrances;
use crate::host::Host;
use crate::running::Daemon;
use crate::sysctl;

/// Where systemd looks for configuration, the strongest first.
const SYSTEMD: [&str; 4] = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];
/// Where NetworkManager does.
const NETWORK_MANAGER: [&str; 3] = ["etc/NetworkManager", "run/NetworkManager", "usr/lib/NetworkManager"];
/// Where the kubelet's arguments are kept by kubeadm and by packages.
const KUBELET: [&str; 3] =
    ["var/lib/kubelet/kubeadm-flags.env", "etc/default/kubelet", "etc/sysconfig/kubelet"];

/// The drop-in that keeps networkd from dropping the routes and rules of others.
pub const DROP_IN: &str = "\
# Install as /etc/systemd/networkd.conf.d/10-multinic.conf, then restart systemd-networkd in a maintenance window.
# Without these, networkd drops the policy rules and routes of CNI plugins whenever it configures a NIC.
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
";

impl Host {
    /// Looks at what decides over NICs of ours beside the links themselves, and asks on the bus whether what a change needs is
    /// allowed. `targets`: what they are to be like.
    ///
    /// # Errors
    /// Where the kernel does not tell its rules.
    pub async fn survey(&self, targets: &[NicTarget]) -> Result<Survey, HostError> {
        let mut hindrances = hindrances::of_node(&self.root, self.backend, self.guard.as_ref());
        hindrances.extend(self.denied().await);
        Ok(Survey {
            networkd: Daemon::Networkd.runs(&self.root).then(|| networkd(&self.root)),
            network_manager: Daemon::NetworkManager.runs(&self.root).then(|| network_manager(&self.root)),
            rules: self.netlink.foreign_rules()?,
            claims: claims(&self.root),
            reverse_path_of_all: sysctl::of_all(observed::Setting::RpFilter),
            kubelet: both(kubelet(&self.root), self.kubelet),
            vlans: targets
                .iter()
                .find_map(NicTarget::vlan)
                .and_then(|vlan| self.netlink.knows_vlans(&vlan.to_string())),
            missing: missing(&self.root, self.backend),
            hindrances,
        })
    }
}

/// Where that drop-in goes.
const DROP_IN_PATH: &str = "etc/systemd/networkd.conf.d/10-multinic.conf";

/// Whether networkd runs on the node of this root, and is not told to leave alone what others set.
///
/// # Errors
/// Where the root cannot be opened.
pub fn needs_drop_in(root: &Path) -> Result<bool, HostError> {
    let root = HostRoot::open(root)?;
    let Networkd { keeps_routes, keeps_rules } = networkd(&root);
    Ok(Daemon::Networkd.runs(&root) && [keeps_routes, keeps_rules].contains(&Setting::Unset))
}

/// Puts the drop-in in place on the node of this root. The running networkd knows nothing of it before its next start.
/// Returns the path.
///
/// # Errors
/// Where the file cannot be written.
pub fn install_drop_in(root: &Path) -> Result<String, HostError> {
    let root = HostRoot::open(root)?;
    let path = Path::new(DROP_IN_PATH);
    root.make_directory(path.parent().unwrap_or(path), 0o755)?;
    // networkd is not root.
    let copy = FileCopy { bytes: DROP_IN.into(), mode: 0o644, owner: None };
    root.write(path, &copy, None)?;
    Ok(format!("/{DROP_IN_PATH}"))
}

/// What networkd was told, and whether it runs since.
pub(crate) fn networkd(root: &HostRoot) -> Networkd {
    let started = std::fs::symlink_metadata(root.path().join(Daemon::Networkd.link()));
    let started = started.ok().map(|link| changed(&link));
    let written = |path: &Path| std::fs::metadata(root.path().join(path)).ok().map(|file| changed(&file));
    // A drop-in that said otherwise may have been taken away since the start.
    let folders =
        SYSTEMD.iter().filter_map(|folder| written(&Path::new(folder).join("networkd.conf.d"))).max();
    let mut settings: BTreeMap<String, Setting> = BTreeMap::new();
    for path in configuration(root, &SYSTEMD, "networkd.conf", "networkd.conf.d") {
        let Some(text) = text(root, &path) else { continue };
        let written = written(&path).max(folders);
        for line in ini::lines(&text).filter(|line| line.section == "Network") {
            settings.insert(line.key.to_owned(), setting(line.value, written, started));
        }
    }
    let of = |key| settings.get(key).copied().unwrap_or(Setting::Unset);
    Networkd { keeps_routes: of("ManageForeignRoutes"), keeps_rules: of("ManageForeignRoutingPolicyRules") }
}

/// Whether a file was written since networkd started, so that it has not read it by itself.
pub(crate) fn is_newer_than_networkd(root: &HostRoot, path: &Path) -> bool {
    let started = std::fs::symlink_metadata(root.path().join(Daemon::Networkd.link())).ok();
    let written = std::fs::metadata(root.path().join(path)).ok();
    matches!((started, written), (Some(started), Some(written)) if changed(&written) > changed(&started))
}

/// Whether a file of networkd may be about a link with one of these names; what cannot be told, may be.
pub(crate) fn networkd_may_have(root: &HostRoot, names: &[&str]) -> bool {
    SYSTEMD.iter().any(|folder| {
        let folder = Path::new(folder).join("network");
        root.names(&folder).unwrap_or_default().into_iter().map(|name| folder.join(name)).any(|path| {
            let is_network = path.extension().is_some_and(|ending| ending == "network");
            is_network && text(root, &path).is_none_or(|text| may_match(&text, names))
        })
    })
}

/// Whether a file of networkd may be about a link of these names. No text is too strange.
pub fn may_match(text: &str, names: &[&str]) -> bool {
    let of = |key| {
        let lines = ini::lines(text).filter(move |line| (line.section, line.key) == ("Match", key));
        lines.flat_map(|line| line.value.split_whitespace()).peekable()
    };
    // As the files of systemd itself are about wlan.
    if of("Type").any(|kind| kind.bytes().all(|byte| byte.is_ascii_lowercase()) && kind != "ether")
        && !of("Type").any(|kind| kind == "ether")
    {
        return false;
    }
    let mut patterns = of("Name");
    let matches = |pattern: &str| match pattern.find(['*', '?', '[', '!', '\\']) {
        Some(at) => names.iter().any(|name| pattern.get(..at).is_some_and(|start| name.starts_with(start))),
        None => names.contains(&pattern),
    };
    patterns.peek().is_none() || patterns.any(matches)
}

/// When something was put there or changed, in seconds and nanoseconds: what copies a file with its time of modification, or
/// moves it to its place, cannot set this.
fn changed(file: &Metadata) -> (i64, i64) {
    (file.ctime(), file.ctime_nsec())
}

/// What the running program made of a line: it knows what was written before it started.
fn setting(value: &str, written: Option<(i64, i64)>, started: Option<(i64, i64)>) -> Setting {
    if !matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "0" | "off" | "n" | "f") {
        return Setting::Unset;
    }
    match (written, started) {
        (Some(written), Some(started)) if written <= started => Setting::InEffect,
        _ => Setting::OnDisk,
    }
}

/// A program's file with its drop-ins, in the order in which it reads them: a drop-in of the same name in a stronger folder
/// takes the other's place. What does not end in `.conf` is none.
fn configuration(root: &HostRoot, folders: &[&str], file: &str, drop_ins: &str) -> Vec<PathBuf> {
    let whole = folders.iter().map(|folder| Path::new(folder).join(file));
    let mut found: Vec<PathBuf> = whole.filter(|path| root.path().join(path).exists()).take(1).collect();
    let mut by_name: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in folders {
        let folder = Path::new(folder).join(drop_ins);
        for name in root.names(&folder).unwrap_or_default() {
            if Path::new(&name).extension().is_some_and(|ending| ending == "conf") {
                by_name.entry(name.clone()).or_insert_with(|| folder.join(&name));
            }
        }
    }
    found.extend(by_name.into_values());
    found
}

fn network_manager(root: &HostRoot) -> NetworkManager {
    let mut leaves_new_nics = false;
    for path in configuration(root, &NETWORK_MANAGER, "NetworkManager.conf", "conf.d") {
        let Some(text) = text(root, &path) else { continue };
        for line in ini::lines(&text).filter(|line| line.section == "main" && line.key == "no-auto-default") {
            leaves_new_nics = line.value.split([',', ';']).any(|item| item.trim() == "*");
        }
    }
    NetworkManager { leaves_new_nics }
}

/// What files of others say of NICs.
fn claims(root: &HostRoot) -> Vec<Claim> {
    const SCRIPTS: [&str; 2] = ["etc/sysconfig/network-scripts", "etc/sysconfig/network"];
    let mut found = Vec::new();
    let mut read = |path: &str, text: &str| found.extend(claims::read(path, text));
    each_file(root, &netplan::DIRECTORIES, "", Some("yaml"), &mut read);
    each_file(root, &SYSTEMD, "network", Some("network"), &mut read);
    each_file(root, &NETWORK_MANAGER, "system-connections", Some("nmconnection"), &mut read);
    each_file(root, &SCRIPTS, "", None, &mut read);
    found
}

/// Every file of others below these folders with this ending (none: any). A file of the same name in a stronger folder takes
/// the other's place.
fn each_file(
    root: &HostRoot,
    folders: &[&str],
    below: &str,
    ending: Option<&str>,
    read: &mut impl FnMut(&str, &str),
) {
    let mut seen = BTreeSet::new();
    for folder in folders {
        let folder = Path::new(folder).join(below);
        for name in root.names(&folder).unwrap_or_default() {
            let path = folder.join(&name);
            let another = ending.is_some() && path.extension().and_then(|it| it.to_str()) != ending;
            // netplan's own output says what its YAML says, which is read itself.
            let generated = name.to_string_lossy().contains("netplan-");
            if places::known(&path).is_some() || generated || another || !seen.insert(name) {
                continue;
            }
            if let Some(text) = text(root, &path) {
                read(&format!("/{}", path.display()), &text);
            }
        }
    }
}

fn text(root: &HostRoot, path: &Path) -> Option<String> {
    let copy = root.read_of_others(path).ok()??;
    String::from_utf8(copy.bytes).ok()
}

/// What either says: a file may name none of the flags that the kubelet was started with.
fn both(one: Option<Kubelet>, other: Option<Kubelet>) -> Option<Kubelet> {
    let (Some(a), Some(b)) = (one, other) else { return one.or(other) };
    Some(Kubelet { external_cloud: a.external_cloud || b.external_cloud, node_ip: a.node_ip || b.node_ip })
}

fn kubelet(root: &HostRoot) -> Option<Kubelet> {
    let texts: Vec<String> = KUBELET.iter().filter_map(|path| text(root, Path::new(path))).collect();
    (!texts.is_empty()).then(|| {
        let has = |flag: &str| texts.iter().any(|text| text.contains(flag));
        Kubelet { external_cloud: has("--cloud-provider=external"), node_ip: has("--node-ip=") }
    })
}

/// What a backend's manager is talked to by.
fn missing(root: &HostRoot, backend: Backend) -> Vec<Missing> {
    let needs: &[(&[&str], &str)] = match backend {
        // Of a mounted root there may be no more than what is written.
        Backend::Netplan if !root.path().join("usr/sbin").is_dir() => &[],
        Backend::Netplan => &[(
            &["usr/sbin/netplan", "usr/bin/netplan", "sbin/netplan"],
            "our files are not checked before they are put in place, and nothing reads them at boot",
        )],
        // They are told by the bus.
        Backend::NetworkManager | Backend::Ifcfg | Backend::Networkd => &[],
        Backend::Wicked => &[(&["usr/sbin/wicked"], "wicked cannot be told of an interface")],
    };
    let absent = needs.iter().filter(|(paths, _)| !paths.iter().any(|path| root.path().join(path).exists()));
    absent
        .map(|(paths, needed_for)| Missing {
            path: format!("/{}", paths.first().copied().unwrap_or_default()),
            needed_for: (*needed_for).to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use multinic_core::node::doctor::Means;

    #[test]
    fn a_file_is_not_about_a_link_only_where_its_names_say_so() {
        let may = |matched: &str| {
            may_match(&format!("[Match]\n{matched}\n[Network]\nDHCP=yes\n"), &["enp0s5", "multinic0"])
        };
        for matched in
            ["", "Type=ether", "Name=*", "Name=multinic0", "Name=mul*", "Name=eth0 enp?s5", "Name=!eth0"]
        {
            assert!(may(matched), "{matched}");
        }
        for matched in [
            "Type=wlan",
            "Name=eth0",
            "Name=ens*",
            "Name=multinic",
            "MACAddress=fa:16:3e:00:00:01\nName=eth0",
        ] {
            assert!(!may(matched), "{matched}");
        }
    }

    use super::*;
    use crate::files::put;

    /// A node's root with these files.
    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            put(folder.path(), path, text);
        }
        let root = HostRoot::open(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn a_setting_counts_once_networkd_was_started_with_it() {
        let drop_in = "etc/systemd/networkd.conf.d/10-multinic.conf";
        let (folder, root) = root(&[
            ("usr/lib/systemd/networkd.conf.d/50-distribution.conf", "[Network]\nManageForeignRoutes=yes\n"),
            ("etc/systemd/networkd.conf", "[Network]\n#ManageForeignRoutingPolicyRules=no\n"),
        ]);
        assert_eq!(networkd(&root), Networkd { keeps_routes: Setting::Unset, keeps_rules: Setting::Unset });
        put(folder.path(), drop_in, DROP_IN);
        let path = folder.path().join(drop_in);
        let started = folder.path().join(Daemon::Networkd.link());
        std::fs::create_dir_all(started.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("0123", &started).unwrap();
        let start = changed(&std::fs::symlink_metadata(&started).unwrap());
        let change = |path: &Path| changed(&std::fs::metadata(path).unwrap());
        // 10- is read before 50-, so the distribution's word on routes counts.
        let seen = |keeps_rules| Networkd { keeps_routes: Setting::Unset, keeps_rules };
        assert_eq!(networkd(&root), seen(Setting::InEffect));
        // As one is put there that is copied with its time, once the clock has gone on.
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        while change(&path) <= start {
            std::fs::write(&path, DROP_IN).unwrap();
            for copied in [path.as_path(), path.parent().unwrap()] {
                std::fs::File::open(copied).unwrap().set_modified(long_ago).unwrap();
            }
        }
        assert_eq!(networkd(&root), seen(Setting::OnDisk));
    }

    #[test]
    fn a_drop_in_of_the_same_name_takes_the_place_of_the_distributions() {
        let (_folder, root) = root(&[
            ("usr/lib/systemd/networkd.conf.d/10-a.conf", "[Network]\nManageForeignRoutes=yes\n"),
            ("etc/systemd/networkd.conf.d/10-a.conf", "[Network]\nManageForeignRoutes=false\n"),
        ]);
        assert_eq!(networkd(&root).keeps_routes, Setting::OnDisk);
    }

    #[test]
    fn files_of_others_are_read_for_the_nics_that_they_mean_and_ours_are_not() {
        let mac = "fa:16:3e:00:00:01";
        let by_mac = || Means::Mac(mac.parse().unwrap());
        let names = |pattern: &str| Means::Names(pattern.to_owned());
        let cases = [
            (
                "etc/netplan/50-cloud-init.yaml",
                "network: {ethernets: {one: {match: {macaddress: 'FA:16:3E:00:00:01'}, dhcp4: true}}}",
                Some((by_mac(), true)),
            ),
            (
                "etc/netplan/60-all.yaml",
                "network: {ethernets: {all: {match: {name: en*}}}}",
                Some((names("en*"), false)),
            ),
            (
                "etc/netplan/61-id.yaml",
                "network: {ethernets: {renderer: networkd, eth0: {dhcp6: true}}}",
                Some((names("eth0"), true)),
            ),
            ("etc/netplan/91-multinic1.yaml", "network: {ethernets: {multinic1: {dhcp4: true}}}", None),
            ("etc/netplan/broken.yaml", "network: [", None),
            (
                "etc/systemd/network/20-all.network",
                "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
                Some((names("en*"), true)),
            ),
            (
                "etc/systemd/network/21-ether.network",
                "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n",
                Some((names("*"), true)),
            ),
            (
                "usr/lib/systemd/network/22-mac.network",
                &format!("[Match]\nMACAddress={mac}\nName=en*\n"),
                Some((by_mac(), false)),
            ),
            ("run/systemd/network/10-netplan-all.network", "[Match]\nName=*\n", None),
            (
                "etc/NetworkManager/system-connections/a.nmconnection",
                &format!("[ethernet]\nmac-address={mac}\n[ipv4]\nmethod=auto\n"),
                Some((by_mac(), true)),
            ),
            (
                "etc/sysconfig/network-scripts/ifcfg-eth1",
                &format!("HWADDR=\"{mac}\"\nBOOTPROTO=dhcp\n"),
                Some((by_mac(), true)),
            ),
            ("etc/sysconfig/network-scripts/route-eth1", &format!("HWADDR={mac}\n"), None),
        ];
        for (path, text, expected) in cases {
            let (_folder, root) = root(&[(path, text)]);
            let found = claims(&root);
            let expected = expected.map(|(means, dhcp)| Claim { path: format!("/{path}"), means, dhcp });
            assert_eq!(found.first(), expected.as_ref(), "{path}");
        }
    }

    #[test]
    fn networkmanager_leaves_new_nics_alone_where_it_is_told_for_all() {
        let told = |files: &[(&str, &str)]| network_manager(&root(files).1).leaves_new_nics;
        assert!(!told(&[("etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\n")]));
        assert!(told(&[("usr/lib/NetworkManager/conf.d/00-server.conf", "[main]\nno-auto-default=*\n")]));
        assert!(!told(&[(
            "etc/NetworkManager/conf.d/00-server.conf.rpmsave",
            "[main]\nno-auto-default=*\n"
        )]));
        assert!(!told(&[(
            "etc/NetworkManager/NetworkManager.conf",
            "[main]\nno-auto-default=fa:16:3e:00:00:01\n"
        )]));
    }

    #[test]
    fn a_kubelet_is_known_by_its_arguments() {
        let (_folder, root) = root(&[(
            "var/lib/kubelet/kubeadm-flags.env",
            "KUBELET_KUBEADM_ARGS=\"--cloud-provider=external --node-ip=10.0.0.5\"\n",
        )]);
        assert_eq!(kubelet(&root), Some(Kubelet { external_cloud: true, node_ip: true }));
    }
}
