//! NetworkManager. It takes every NIC that appears by DHCP unless a profile claims it, follows a link through its renaming,
//! and takes addresses away that it did not set when a profile is activated. So it is made to let go of the NIC first, and
//! gets it back with the profile that says what the kernel shows already.
//!
//! A NIC that is released it is not given back: it would bring it up, by DHCP. That lasts until the NIC is plugged anew or
//! the node boots; `nmcli device set NAME managed yes` ends it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::NicTarget;
use tokio::time::Instant;
use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::bus::{Bus, BusError, Object};
use super::{LONGEST, ManagerError, PAUSE, Told};
use crate::backend::places::{self, Kind};
use crate::backend::{is_ours, uuid, uuid_of_vlan};
use crate::files::HostRoot;
use crate::netlink::LinkRef;

/// Its name on the bus.
pub const SERVICE: &str = "org.freedesktop.NetworkManager";
const ROOT: Object<'static> =
    Object { service: SERVICE, path: "/org/freedesktop/NetworkManager", interface: SERVICE };
const SETTINGS: Object<'static> = Object {
    service: SERVICE,
    path: "/org/freedesktop/NetworkManager/Settings",
    interface: "org.freedesktop.NetworkManager.Settings",
};
const UNKNOWN_DEVICE: &str = "org.freedesktop.NetworkManager.UnknownDevice";
const UNKNOWN_CONNECTION: &str = "org.freedesktop.NetworkManager.Settings.InvalidConnection";

/// What it says of a checkpoint that is not there.
const INVALID_ARGUMENTS: &str = "org.freedesktop.NetworkManager.InvalidArguments";
/// `NM_CHECKPOINT_CREATE_FLAG_ALLOW_OVERLAPPING`: somebody else may have one of the same device.
const ALLOW_OVERLAPPING: u32 = 0x08;

/// `NM_DEVICE_STATE_UNMANAGED`.
const UNMANAGED: u32 = 10;
/// `NM_DEVICE_STATE_ACTIVATED`.
const ACTIVATED: u32 = 100;
/// `NM_DEVICE_STATE_FAILED`.
const FAILED: u32 = 120;

/// How long a NIC that it has let go of already may stay so after the profile has been read, before that counts as what
/// its own configuration wants: one that has just been plugged, it does not manage for a moment. And how long a link that
/// has just come up may be without a carrier, before that counts as how it is.
const NEW: Duration = Duration::from_secs(3);

struct NetworkManager(Bus);

/// How a device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    state: u32,
    /// The UUID of the profile that is active on it.
    profile: Option<String>,
}

/// Whether it manages a link, other than by the profile of this NIC.
pub async fn has_a_hand_on(
    root: &HostRoot,
    link: &str,
    stays_with: Option<&NicTarget>,
) -> Result<bool, ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(false) };
    let Some(device) = manager.device(link).await? else { return Ok(false) };
    let standing = manager.standing(&device).await?;
    let stays = stays_with.is_some_and(|target| standing.is_activated_with(&uuid(target)));
    Ok(standing.state != UNMANAGED && !stays)
}

/// What it does not let us do, of what a change needs.
pub async fn denied(bus: &Bus) -> Option<String> {
    const NEEDED: [&str; 3] = ["network-control", "settings.modify.system", "checkpoint-rollback"];
    if !bus.has_owner(SERVICE).await.is_ok_and(|runs| runs) {
        return None;
    }
    match bus.call::<_, HashMap<String, String>>(ROOT, "GetPermissions", &()).await {
        Ok(permissions) => {
            let refused = |right: &&&str| {
                permissions.get(&format!("{SERVICE}.{right}")).is_some_and(|answer| answer != "yes")
            };
            let refused: Vec<&str> = NEEDED.iter().filter(refused).copied().collect();
            (!refused.is_empty()).then(|| format!("NetworkManager does not permit {}", refused.join(", ")))
        }
        Err(error) => error.is_denied().then(|| error.to_string()),
    }
}

/// The profile by which it has a NIC of ours, if that is not ours.
pub(crate) async fn other_profile(
    root: &HostRoot,
    target: &NicTarget,
) -> Result<Option<String>, ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(None) };
    let Some(device) = manager.device(&target.name.to_string()).await? else { return Ok(None) };
    let Standing { state, profile } = manager.standing(&device).await?;
    Ok(profile.filter(|profile| state != UNMANAGED && *profile != uuid(target)))
}

/// Makes a checkpoint of a link that it manages, to which it goes back by itself after a time.
pub async fn checkpoint(
    root: &HostRoot,
    link: &str,
    after: Duration,
) -> Result<Option<String>, ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(None) };
    let Some(device) = manager.device(link).await? else { return Ok(None) };
    if manager.standing(&device).await?.state == UNMANAGED {
        return Ok(None);
    }
    let seconds = u32::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    let body = (vec![&device], seconds, ALLOW_OVERLAPPING);
    let made: OwnedObjectPath = manager.0.call(ROOT, "CheckpointCreate", &body).await?;
    Ok(Some(made.as_str().to_owned()))
}

/// Removes a checkpoint, if it is still there.
pub async fn destroy_checkpoint(root: &HostRoot, checkpoint: &str) -> Result<(), ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(()) };
    let Ok(path) = ObjectPath::try_from(checkpoint) else { return Ok(()) };
    match manager.0.call::<_, ()>(ROOT, "CheckpointDestroy", &path).await {
        Err(error) if !error.is(INVALID_ARGUMENTS) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes it let go of a link.
pub async fn take_from(root: &HostRoot, link: &str) -> Result<(), ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(()) };
    let Some(device) = manager.device(link).await? else { return Ok(()) };
    manager.set_managed(&device, false).await?;
    manager.await_standing(&device, link, |standing| standing.state == UNMANAGED).await
}

/// Makes it read the profile of a NIC and activate it, and that of its VLAN if it has that by an earlier text of it. A VLAN
/// that we made it leaves alone, and makes it itself at the next boot.
pub(crate) async fn adopt(root: &HostRoot, target: &NicTarget, told: Told<'_>) -> Result<(), ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(()) };
    manager.adopt_nic(target, told).await?;
    if let Some(vlan) = target.vlan()
        && let Some(device) = manager.device(&vlan.to_string()).await?
        && manager.standing(&device).await?.is_activated_with(&uuid_of_vlan(target, vlan))
        && told.files.iter().any(|path| is_profile(path))
    {
        manager.reapply(&device).await?;
    }
    Ok(())
}

impl NetworkManager {
    async fn adopt_nic(&self, target: &NicTarget, told: Told<'_>) -> Result<(), ManagerError> {
        let link = target.name.to_string();
        let uuid = uuid(target);
        self.load(told.files).await?;
        let Some(profile) = self.profile(&uuid).await? else {
            let path = told.files.iter().find(|path| is_profile(path)).cloned().unwrap_or_default();
            return Err(ManagerError::Refused { manager: SERVICE, path: on_node(&path).into() });
        };
        let Some(device) = self.await_device(&link, target.mac).await? else {
            let found = "it does not know the link as this NIC's".to_owned();
            return Err(ManagerError::Disagrees { manager: SERVICE, interface: link, found });
        };
        if told.held {
            self.set_managed(&device, true).await?;
        } else if !self.manages_soon(&device).await? {
            return Ok(());
        }
        if !self.has_carrier_soon(&device).await? {
            // It activates nothing on a link without one. It leaves the link as it finds it, and at the next boot has the profile.
            return Ok(());
        }
        if self.standing(&device).await?.is_activated_with(&uuid) {
            if !told.files.iter().any(|path| is_profile(path)) {
                return Ok(());
            }
            self.reapply(&device).await?;
        } else {
            let any = ObjectPath::from_static_str_unchecked("/");
            let _: OwnedObjectPath =
                self.0.call(ROOT, "ActivateConnection", &(&profile, &device, &any)).await?;
        }
        self.await_standing(&device, &link, |standing| standing.is_activated_with(&uuid)).await
    }

    /// Has it make a device as its profile says now.
    async fn reapply(&self, device: &OwnedObjectPath) -> Result<(), BusError> {
        let nothing: HashMap<String, HashMap<String, Variant<'_>>> = HashMap::new();
        self.0.call(self.of_device(device), "Reapply", &(nothing, 0_u64, 0_u32)).await
    }
}

/// Makes it forget profiles whose files are gone.
pub(crate) async fn forget(root: &HostRoot, told: Told<'_>) -> Result<(), ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(()) };
    Ok(manager.load(told.files).await?)
}

/// Makes it read files again that are as they were, and have links so that are active with our profiles; and gives the NIC
/// back that it had let go of, as the first of the links.
pub(crate) async fn give_back(
    root: &HostRoot,
    nic: MacAddr,
    links: &[LinkRef],
    told: Told<'_>,
) -> Result<bool, ManagerError> {
    let Some(manager) = NetworkManager::running(root).await? else { return Ok(false) };
    manager.load(told.files).await?;
    let mut held = told.held;
    let mut made_anew = false;
    for link in links {
        if std::mem::take(&mut held) {
            // It may not have noticed yet that the link has its name again.
            if let Some(device) = manager.await_device(&link.name, nic).await? {
                manager.set_managed(&device, true).await?;
            }
            continue;
        }
        let Some(device) = manager.device(&link.name).await? else { continue };
        let Standing { state, profile } = manager.standing(&device).await?;
        let Some(profile) = profile.filter(|profile| state == ACTIVATED && is_ours(profile)) else {
            continue;
        };
        if told.files.iter().any(|path| is_profile(path)) {
            manager.reapply(&device).await?;
            let agrees = |standing: &Standing| standing.is_activated_with(&profile);
            manager.await_standing(&device, &link.name, agrees).await?;
            made_anew = true;
        }
    }
    Ok(made_anew)
}

fn is_profile(path: &Path) -> bool {
    matches!(places::known(path), Some((Kind::Keyfile | Kind::Ifcfg, _)))
}

/// The path of a file as the manager, which runs on the node, sees it.
fn on_node(path: &Path) -> String {
    format!("/{}", path.display())
}

impl Standing {
    fn is_activated_with(&self, uuid: &str) -> bool {
        self.state == ACTIVATED && self.profile.as_deref() == Some(uuid)
    }
}

impl NetworkManager {
    async fn running(root: &HostRoot) -> Result<Option<Self>, BusError> {
        let Some(bus) = Bus::connect(root).await? else { return Ok(None) };
        Ok(bus.has_owner(SERVICE).await?.then_some(Self(bus)))
    }

    fn of_device<'a>(&self, device: &'a OwnedObjectPath) -> Object<'a> {
        Object { service: SERVICE, path: device.as_str(), interface: "org.freedesktop.NetworkManager.Device" }
    }

    async fn device(&self, link: &str) -> Result<Option<OwnedObjectPath>, BusError> {
        match self.0.call(ROOT, "GetDeviceByIpIface", &link).await {
            Ok(device) => Ok(Some(device)),
            Err(error) if error.is(UNKNOWN_DEVICE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The device of a NIC, which may be so new, or newly named, that it is not known yet, or that another NIC that had the name
    /// before is still known by it.
    async fn await_device(&self, link: &str, nic: MacAddr) -> Result<Option<OwnedObjectPath>, BusError> {
        let deadline = Instant::now() + LONGEST;
        loop {
            if let Some(device) = self.device(link).await?
                && self.is_of(&device, nic).await
            {
                return Ok(Some(device));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether a device is that of a NIC, as far as it says.
    async fn is_of(&self, device: &OwnedObjectPath, nic: MacAddr) -> bool {
        let wired =
            Object { interface: "org.freedesktop.NetworkManager.Device.Wired", ..self.of_device(device) };
        for property in ["HwAddress", "PermHwAddress"] {
            // It may have gone since.
            let address = self.0.get::<String>(wired, property).await;
            if address.is_ok_and(|address| address.parse() == Ok(nic)) {
                return true;
            }
        }
        false
    }

    async fn standing(&self, device: &OwnedObjectPath) -> Result<Standing, BusError> {
        let object = self.of_device(device);
        let state: u32 = self.0.get(object, "State").await?;
        let active: OwnedObjectPath = self.0.get(object, "ActiveConnection").await?;
        if active.as_str() == "/" {
            return Ok(Standing { state, profile: None });
        }
        let interface = "org.freedesktop.NetworkManager.Connection.Active";
        let active = Object { service: SERVICE, path: active.as_str(), interface };
        // It may have ended since.
        Ok(Standing { state, profile: self.0.get::<String>(active, "Uuid").await.ok() })
    }

    async fn await_standing(
        &self,
        device: &OwnedObjectPath,
        link: &str,
        agrees: impl Fn(&Standing) -> bool,
    ) -> Result<(), ManagerError> {
        let deadline = Instant::now() + LONGEST;
        loop {
            let standing = self.standing(device).await?;
            if agrees(&standing) {
                return Ok(());
            }
            if standing.state == FAILED || Instant::now() > deadline {
                let Standing { state, profile } = standing;
                let found =
                    format!("device state {state} with profile {}", profile.as_deref().unwrap_or("none"));
                return Err(ManagerError::Disagrees { manager: SERVICE, interface: link.to_owned(), found });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn manages_soon(&self, device: &OwnedObjectPath) -> Result<bool, BusError> {
        let deadline = Instant::now() + NEW;
        while self.standing(device).await?.state == UNMANAGED {
            if Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(true)
    }

    async fn has_carrier_soon(&self, device: &OwnedObjectPath) -> Result<bool, BusError> {
        let wired =
            Object { interface: "org.freedesktop.NetworkManager.Device.Wired", ..self.of_device(device) };
        let deadline = Instant::now() + NEW;
        while !self.0.get::<bool>(wired, "Carrier").await? {
            if Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(true)
    }

    async fn set_managed(&self, device: &OwnedObjectPath, managed: bool) -> Result<(), BusError> {
        let object = self.of_device(device);
        let properties = Object { interface: "org.freedesktop.DBus.Properties", ..object };
        self.0.call(properties, "Set", &(object.interface, "Managed", Variant::from(managed))).await
    }

    /// Makes it read these files, or forget them if they are gone. The answer says little: a file that is refused is seen
    /// by its profile not being there.
    async fn load(&self, files: &[PathBuf]) -> Result<(), BusError> {
        let paths: Vec<String> =
            files.iter().filter(|path| is_profile(path)).map(|path| on_node(path)).collect();
        if paths.is_empty() {
            return Ok(());
        }
        let (_, _): (bool, Vec<String>) = self.0.call(SETTINGS, "LoadConnections", &paths).await?;
        Ok(())
    }

    async fn profile(&self, uuid: &str) -> Result<Option<OwnedObjectPath>, BusError> {
        match self.0.call(SETTINGS, "GetConnectionByUuid", &uuid).await {
            Ok(profile) => Ok(Some(profile)),
            Err(error) if error.is(UNKNOWN_CONNECTION) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
