//! systemd-networkd. It leaves links alone that no file of its own named when it last read them, and one that it manages by
//! another file (somebody's for every NIC, with DHCP) it has to be told about ours, by reading all files again. With that
//! it drops rules and routes that others set, unless it was started with `ManageForeignRoutingPolicyRules=no` and
//! `ManageForeignRoutes=no`; so without these it is told nothing before the next boot.

use std::path::{Path, PathBuf};

use multinic_core::InterfaceName;
use multinic_core::node::doctor::{Networkd, Setting};
use tokio::time::Instant;

use super::bus::{Bus, Object};
use super::{LONGEST, ManagerError, PAUSE, Told};
use crate::backend::places::Kind;
use crate::files::HostRoot;
use crate::netlink::LinkRef;
use crate::survey;

const SERVICE: &str = "org.freedesktop.network1";

/// What networkd says of a link, in `/run/systemd/netif/links`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct LinkState {
    /// `unmanaged`, `pending`, `configured`, ….
    admin: String,
    /// The file by which it manages the link.
    file: Option<PathBuf>,
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

/// Makes it read all its files again. Says whether it was told to.
async fn reload(root: &HostRoot, file: &Path) -> Result<bool, ManagerError> {
    let Some(bus) = Bus::connect(root).await? else { return Ok(false) };
    if !bus.has_owner(SERVICE).await? {
        return Ok(false);
    }
    let Networkd { keeps_routes, keeps_rules } = survey::networkd(root);
    if (keeps_routes, keeps_rules) != (Setting::InEffect, Setting::InEffect) {
        tracing::warn!(
            path = %file.display(),
            "systemd-networkd manages an interface of ours by another file or an earlier text, and is not told before the \
             next boot: reading its files again, it would drop rules and routes that others set"
        );
        return Ok(false);
    }
    let manager = Object {
        service: SERVICE,
        path: "/org/freedesktop/network1",
        interface: "org.freedesktop.network1.Manager",
    };
    let _: () = bus.call(manager, "Reload", &()).await?;
    Ok(true)
}

/// The file by which it has a link, if that is not ours.
pub(crate) fn other_file(root: &HostRoot, index: u32, name: InterfaceName) -> Option<PathBuf> {
    let LinkState { admin, file } = link_state(root, index);
    let ours = Path::new("/").join(Kind::Network.path(name));
    // netplan's output says what its YAML says, which is ours.
    let netplans = format!("10-netplan-{name}.network");
    let others = |file: &PathBuf| *file != ours && !file.ends_with(&netplans);
    file.filter(|file| admin != "unmanaged" && others(file))
}

fn link_state(root: &HostRoot, index: u32) -> LinkState {
    let path = root.path().join(format!("run/systemd/netif/links/{index}"));
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

fn parse(text: &str) -> LinkState {
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
    use super::*;

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
    fn what_networkd_says_of_a_link_is_read() {
        let text = "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\n\
                    NETWORK_FILE=/etc/systemd/network/10-multinic0.network\n";
        let state = parse(text);
        assert_eq!(state.admin, "configured");
        assert_eq!(state.file.unwrap(), PathBuf::from("/etc/systemd/network/10-multinic0.network"));
        assert_eq!(parse("ADMIN_STATE=unmanaged\n").file, None);
    }
}
