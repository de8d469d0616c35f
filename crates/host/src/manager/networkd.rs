//! systemd-networkd. It leaves links alone that no file of its own named when it last read them, and one that it manages by
//! another file (somebody's for every NIC, with DHCP) it has to be told about ours, by reading all files again. With that
//! it drops rules and routes that others set, unless it was started with `ManageForeignRoutingPolicyRules=no` and
//! `ManageForeignRoutes=no`; so without these it is told nothing before the next boot.

use std::path::{Path, PathBuf};

use multinic_core::InterfaceName;
use multinic_core::node::NicTarget;
use multinic_core::node::doctor::{Networkd, Setting};
use tokio::time::Instant;

use super::bus::{self, Bus, BusError, Object};
use super::{LONGEST, ManagerError, PAUSE, Told};
use crate::backend::netplan::output;
use crate::backend::places::Kind;
use crate::files::HostRoot;
use crate::netlink::LinkRef;
use crate::survey;

/// Its name on the bus.
pub const SERVICE: &str = "org.freedesktop.network1";

const MANAGER: Object<'static> = Object {
    service: SERVICE,
    path: "/org/freedesktop/network1",
    interface: "org.freedesktop.network1.Manager",
};

/// What networkd says of a link, in `/run/systemd/netif/links`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// `unmanaged`, `pending`, `configured`, ….
    pub admin: String,
    /// The file by which it manages the link.
    pub file: Option<PathBuf>,
}

/// Why it does not let us call it, where it runs. It is asked about a link that there is none of.
pub async fn denied(bus: &Bus) -> Option<String> {
    if !bus.has_owner(SERVICE).await.is_ok_and(|runs| runs) {
        return None;
    }
    let answer = bus.call::<_, ()>(MANAGER, "ReconfigureLink", &i32::MAX).await;
    answer.err().filter(BusError::is_denied).map(|error| error.to_string())
}

/// Makes it manage a link of ours by our file as it is now, if it manages the link at all and may be told.
pub(crate) async fn adopt(
    root: &HostRoot,
    index: u32,
    name: InterfaceName,
    told: Told<'_>,
) -> Result<(), ManagerError> {
    let ours = Kind::Network.path(name);
    let before = link_state(root, index);
    let Some(file) = &before.file else { return Ok(()) };
    if *file == Path::new("/").join(&ours) && !told.files.contains(&ours) {
        return Ok(());
    }
    if !reload(root, file).await? {
        return Ok(());
    }
    let ours = Path::new("/").join(ours);
    let deadline = Instant::now() + LONGEST;
    loop {
        let LinkState { admin, file } = link_state(root, index);
        if file.as_ref() == Some(&ours) && admin == "configured" {
            return Ok(());
        }
        if Instant::now() > deadline {
            let file = file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
            let found = format!("{admin} by {file}");
            return Err(ManagerError::Disagrees { manager: SERVICE, interface: name.to_string(), found });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Makes it forget what it read of a change that is rolled back, if it has a link by a file of that: it would set it again
/// at the next carrier.
pub(crate) async fn give_back(
    root: &HostRoot,
    links: &[LinkRef],
    told: Told<'_>,
) -> Result<bool, ManagerError> {
    let touched: Vec<PathBuf> = told.files.iter().map(|path| Path::new("/").join(path)).collect();
    let mut made_anew = false;
    for link in links {
        let Some(file) = link_state(root, link.index).file.filter(|file| touched.contains(file)) else {
            continue;
        };
        made_anew = made_anew || reload(root, &file).await?;
        if !made_anew {
            return Ok(false);
        }
        let settled = |now: &LinkState| match &now.file {
            Some(now_by) => *now_by != file || now.admin == "configured",
            None => true,
        };
        let deadline = Instant::now() + LONGEST;
        // Without a carrier it goes no further; what it knows is what it read.
        while !settled(&link_state(root, link.index)) && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(made_anew)
}

/// Has it look once more at a link that it took up by somebody's file before the link had its name, where no file is about any
/// of its names by now: it lets go of the link, and of its attempts at DHCP there. Since it configures nothing with that, it drops
/// nothing of others. Says whether it was told to; one that keeps the link all the same is no reason to undo the NIC.
pub(crate) async fn let_go(root: &HostRoot, index: u32, names: &[&str]) -> Result<bool, ManagerError> {
    let holds = || {
        let LinkState { admin, file } = link_state(root, index);
        file.filter(|_| admin != "unmanaged")
    };
    if holds().is_none() || survey::networkd_may_have(root, names) {
        return Ok(false);
    }
    let Some(bus) = Bus::connect(root).await? else { return Ok(false) };
    let Ok(number) = i32::try_from(index) else { return Ok(false) };
    if !bus.has_owner(SERVICE).await? {
        return Ok(false);
    }
    let _: () = bus.call(MANAGER, "ReconfigureLink", &number).await?;
    let deadline = Instant::now() + LONGEST;
    while let Some(file) = holds() {
        if Instant::now() > deadline {
            // What the kernel has is right, and is looked after; a condition says that networkd has the link too.
            tracing::warn!(interface = names.last(), file = %file.display(), "networkd does not let go of the link");
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(true)
}

/// Makes it read all its files again. Says whether it was told to.
async fn reload(root: &HostRoot, file: &Path) -> Result<bool, ManagerError> {
    let Some(bus) = Bus::connect(root).await? else { return Ok(false) };
    if !bus.has_owner(SERVICE).await? {
        return Ok(false);
    }
    if !keeps_what_others_set(root) {
        tracing::warn!(
            path = %file.display(),
            "systemd-networkd manages an interface of ours by another file or an earlier text, and is not told before the \
             next boot: reading its files again, it would drop rules and routes that others set"
        );
        return Ok(false);
    }
    let _: () = bus.call(MANAGER, "Reload", &()).await?;
    Ok(true)
}

/// How it has a NIC of ours otherwise than our files say now; none where it has it so, or leaves it alone. It is not told before
/// its next start on networkd's own nodes, and before the next boot with netplan.
pub(crate) fn untold(root: &HostRoot, index: u32, target: &NicTarget) -> Option<String> {
    let LinkState { admin, file } = link_state(root, index);
    let file = file.filter(|_| admin != "unmanaged")?;
    let by = |what: &str| Some(format!("it has {} by {}{what}", target.name, file.display()));
    let on_node = file.strip_prefix("/").unwrap_or(&file);
    let ours = Kind::Network.path(target.name);
    if on_node == ours {
        let is_newer = survey::is_newer_than_networkd(root, &ours);
        return if is_newer && !may_be_told(root) { by(" as that was before") } else { None };
    }
    if on_node != output::path(&target.name.to_string()) {
        return by("");
    }
    if root.path().join(&ours).exists() {
        return by(&format!(" and not by /{}", ours.display()));
    }
    let copy = root.read(on_node).ok().flatten();
    let Some(text) = copy.and_then(|copy| String::from_utf8(copy.bytes).ok()) else {
        return by(", which cannot be read");
    };
    by(&format!(", which {}", output::difference(&text, &target.of_nic())?))
}

/// Whether it takes nothing away that others set when it reads its files again, and can be told to.
fn may_be_told(root: &HostRoot) -> bool {
    keeps_what_others_set(root) && root.path().join(bus::SOCKET).exists()
}

/// Whether it leaves rules and routes of others alone, as it runs.
fn keeps_what_others_set(root: &HostRoot) -> bool {
    let Networkd { keeps_routes, keeps_rules } = survey::networkd(root);
    (keeps_routes, keeps_rules) == (Setting::InEffect, Setting::InEffect)
}

/// The file by which it has a link, if that is not ours.
pub(crate) fn other_file(root: &HostRoot, index: u32, name: InterfaceName) -> Option<PathBuf> {
    let LinkState { admin, file } = link_state(root, index);
    let ours = Path::new("/").join(Kind::Network.path(name));
    // netplan's output says what its YAML says, which is ours.
    let netplans = Path::new("/").join(output::path(&name.to_string()));
    let others = |file: &PathBuf| *file != ours && *file != netplans;
    file.filter(|file| admin != "unmanaged" && others(file))
}

fn link_state(root: &HostRoot, index: u32) -> LinkState {
    let path = root.path().join(format!("run/systemd/netif/links/{index}"));
    read_link_state(&std::fs::read_to_string(path).unwrap_or_default())
}

/// Reads one. No text is too strange.
pub fn read_link_state(text: &str) -> LinkState {
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(found, _)| *found == key).map(|(_, value)| value)
    };
    LinkState {
        admin: value("ADMIN_STATE").unwrap_or_default().to_owned(),
        file: value("NETWORK_FILE").filter(|file| !file.is_empty()).map(PathBuf::from),
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::{Addresses, Mtu, NicOptions};

    use super::*;
    use crate::files::put;

    #[test]
    fn a_link_that_it_has_by_a_file_of_somebody_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        let links = folder.path().join("run/systemd/netif/links");
        std::fs::create_dir_all(&links).unwrap();
        let cases = [
            ("configured", "/etc/systemd/network/80-dhcp.network", true),
            ("configured", "/etc/systemd/network/10-multinic0.network", false),
            ("configured", "/run/systemd/network/10-netplan-multinic0.network", false),
            ("unmanaged", "/etc/systemd/network/80-dhcp.network", false),
            ("unmanaged", "", false),
        ];
        for (admin, file, other) in cases {
            std::fs::write(links.join("7"), format!("ADMIN_STATE={admin}\nNETWORK_FILE={file}\n")).unwrap();
            let found = other_file(&root, 7, "multinic0".parse().unwrap());
            assert_eq!(found, other.then(|| PathBuf::from(file)), "{admin} {file}");
        }
        assert_eq!(other_file(&root, 8, "multinic0".parse().unwrap()), None);
    }

    #[test]
    fn what_it_is_not_told_of_before_the_next_boot_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        let write = |path: &str, text: &str| put(folder.path(), path, text);
        let target = NicTarget {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: "multinic0".parse().unwrap(),
            addresses: Addresses::parse(["192.0.2.10/24"]).unwrap(),
            mtu: Mtu::new(1450).unwrap(),
            options: NicOptions::default(),
        };
        let said = |admin: &str, file: &str| {
            write("run/systemd/netif/links/7", &format!("ADMIN_STATE={admin}\nNETWORK_FILE={file}\n"));
            untold(&root, 7, &target)
        };
        let ours = "/etc/systemd/network/10-multinic0.network";
        let netplans = "/run/systemd/network/10-netplan-multinic0.network";
        assert_eq!(said("unmanaged", ""), None);
        let other = said("configured", "/etc/systemd/network/80-dhcp.network").unwrap();
        assert_eq!(other, "it has multinic0 by /etc/systemd/network/80-dhcp.network");
        write(&netplans[1..], "[Network]\nAddress=192.0.2.10/24\n");
        assert_eq!(said("configured", netplans), None);
        write(&netplans[1..], "[Network]\nAddress=192.0.2.9/24\n");
        assert!(said("configured", netplans).unwrap().ends_with(", which lacks 192.0.2.10/24"));
        // What is there when it starts, it has read.
        write(&ours[1..], "[Network]\nAddress=192.0.2.10/24\n");
        assert!(
            said("configured", netplans)
                .unwrap()
                .ends_with("and not by /etc/systemd/network/10-multinic0.network")
        );
        write("run/systemd/units/invocation:systemd-networkd.service", "");
        assert_eq!(said("configured", ours), None);
        loop {
            write(&ours[1..], "[Network]\nAddress=192.0.2.10/24\n");
            if said("configured", ours).is_some() {
                break;
            }
        }
        assert!(said("configured", ours).unwrap().ends_with("as that was before"));
    }

    #[test]
    fn what_networkd_says_of_a_link_is_read() {
        let text = "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n\
                    NETWORK_FILE=/etc/systemd/network/10-multinic0.network\n";
        let state = read_link_state(text);
        assert_eq!(state.admin, "configured");
        assert_eq!(state.file.unwrap(), PathBuf::from("/etc/systemd/network/10-multinic0.network"));
        assert_eq!(read_link_state("ADMIN_STATE=unmanaged\n").file, None);
    }
}
