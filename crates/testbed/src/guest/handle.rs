//! The handle by which a guest is changed and asked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use multinic_core::MacAddr;
use tempfile::TempDir;

use super::boot::Boot;
use super::error::file;
use super::rootfs::{succeed, tail};
use super::{GuestError, Rootfs};
use crate::node::{NetNs, Switch};

/// Services get 90 seconds of it from systemd.
const END_LIMIT: Duration = Duration::from_secs(150);

/// A NIC of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its MAC.
    pub mac: MacAddr,
    /// What the kernel calls it when it appears, such as `ens4`.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The network of the switch that it is plugged into.
    pub network: String,
}

/// A guest. It is off at first, so that files, folders and NICs can be given to it before its first boot. It ends with its
/// handle, at once.
#[derive(Debug)]
pub struct Guest {
    // Before the folder, which goes when all processes have ended.
    boot: Option<Boot>,
    name: String,
    rootfs: Rootfs,
    net: NetNs,
    switch: Arc<Switch>,
    nics: Vec<Nic>,
    arguments: Vec<String>,
    boots: u32,
    folder: TempDir,
}

impl Guest {
    /// A guest that is off. Its name becomes its host name.
    ///
    /// # Errors
    /// Where no folder or namespace can be made.
    pub fn new(rootfs: &Rootfs, name: &str, switch: &Arc<Switch>) -> Result<Self, GuestError> {
        let folder = tempfile::Builder::new().prefix(&format!("guest-{name}-")).tempdir();
        let folder = folder.map_err(file(std::env::temp_dir()))?;
        for part in ["upper", "work", "root", "cgroup"] {
            let path = folder.path().join(part);
            fs::create_dir(&path).map_err(file(path))?;
        }
        let guest = Self {
            boot: None,
            name: name.to_owned(),
            rootfs: rootfs.clone(),
            net: NetNs::new(name)?,
            switch: switch.clone(),
            nics: Vec::new(),
            arguments: Vec::new(),
            boots: 0,
            folder,
        };
        guest.write("/etc/hostname", &format!("{name}\n"), 0o644)?;
        guest.write("/etc/hosts", &format!("127.0.0.1 localhost {name}\n"), 0o644)?;
        Ok(guest)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it boots from.
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// Its network. Each boot after the first gives it a new one, as a machine has nothing of the kernel that it ran before.
    pub fn net(&self) -> &NetNs {
        &self.net
    }

    /// The switch that its NICs are plugged into.
    pub fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// Mounts a folder of this machine into the guest from its next boot on.
    pub fn bind(&mut self, folder: &Path, at: &str, writable: bool) {
        let option = if writable { "bind" } else { "bind-ro" };
        self.arguments.push(format!("--{option}={}:{at}", folder.display()));
    }

    /// Makes a folder on this machine that the guest has at a path from its next boot on. It goes with the guest. What a
    /// program mounts an overlay over must not be on one itself.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn add_disk(&mut self, name: &str, at: &str) -> Result<PathBuf, GuestError> {
        let path = self.folder.path().join("disks").join(name);
        fs::create_dir_all(&path).map_err(file(&path))?;
        self.bind(&path, at, true);
        Ok(path)
    }

    /// Boots it and waits until it is up. Nothing happens if it is.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn boot(&mut self) -> Result<(), GuestError> {
        if self.boot.is_some() {
            return Ok(());
        }
        if self.boots > 0 {
            self.renew_network()?;
        }
        self.boots += 1;
        let mut arguments = self.arguments.clone();
        arguments.push(format!("--hostname={}", self.name));
        let boot = Boot::start(&self.rootfs, &self.group(), self.folder.path(), &self.net, &arguments)?;
        self.boot = Some(boot);
        Ok(())
    }

    /// The NICs appear anew, under the names that a kernel gives them.
    fn renew_network(&mut self) -> Result<(), GuestError> {
        for nic in &self.nics {
            self.switch.unplug(nic.mac)?;
        }
        self.net = NetNs::new(&self.name)?;
        for Nic { mac, name, mtu, network } in &self.nics {
            self.switch.plug(&self.net, *mac, name, *mtu, network)?;
        }
        Ok(())
    }

    /// Reboots it cleanly (`systemctl reboot`) and waits until it is up again.
    ///
    /// # Errors
    /// Where it is off, does not go down, or does not come up.
    pub fn reboot(&mut self) -> Result<(), GuestError> {
        self.go_down("reboot")?;
        self.boot()
    }

    /// Shuts it down cleanly. It can be booted again.
    ///
    /// # Errors
    /// Where it is off or does not go down.
    pub fn stop(&mut self) -> Result<(), GuestError> {
        self.go_down("poweroff")
    }

    fn go_down(&mut self, how: &str) -> Result<(), GuestError> {
        // The guest may be gone before the command has its answer.
        let _ = self.command("systemctl")?.arg(how).output();
        self.running()?.until_down(&self.name, END_LIMIT)?;
        self.boot = None;
        Ok(())
    }

    /// Ends it as one whose power fails: no process hears of it. What was written stays, as this machine's kernel lives on.
    pub fn cut_power(&mut self) {
        self.boot = None;
    }

    /// Cuts its power and boots it.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn reset(&mut self) -> Result<(), GuestError> {
        self.cut_power();
        self.boot()
    }

    fn running(&self) -> Result<&Boot, GuestError> {
        self.boot.as_ref().ok_or_else(|| GuestError::Off(self.name.clone()))
    }

    /// Its control group, in every tree that it is in; no other guest of this machine has one of this name.
    pub(crate) fn group(&self) -> String {
        self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The number that this machine gives to the guest's first process.
    ///
    /// # Errors
    /// Where it is off.
    pub fn leader(&self) -> Result<u32, GuestError> {
        Ok(self.running()?.leader())
    }

    /// A program that is to run in the guest, with its environment empty but for the search path.
    ///
    /// # Errors
    /// Where it is off.
    pub fn command(&self, program: &str) -> Result<Command, GuestError> {
        let mut command = self.running()?.command();
        command.arg(program);
        Ok(command)
    }

    /// Runs a program in the guest to its end, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// Where it is off, or the program fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, GuestError> {
        let mut command = self.command(program)?;
        command.args(arguments);
        succeed(command)
    }

    /// Where a path of the guest (absolute) is for a program on this machine. A symbolic link in it that is absolute leads
    /// astray. While the guest is off, only what was written in it is there.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = match &self.boot {
            Some(boot) => PathBuf::from(format!("/proc/{}/root", boot.leader())),
            None => self.folder.path().join("upper"),
        };
        root.join(path.trim_start_matches('/'))
    }

    /// Writes a file of the guest, with its folders.
    ///
    /// # Errors
    /// Where that fails.
    pub fn write(&self, path: &str, content: &str, mode: u32) -> Result<(), GuestError> {
        let path = self.path(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file(folder))?;
        }
        fs::write(&path, content).map_err(file(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(file(path))
    }

    /// Reads a file of the guest.
    ///
    /// # Errors
    /// Where that fails.
    pub fn read(&self, path: &str) -> Result<String, GuestError> {
        let path = self.path(path);
        fs::read_to_string(&path).map_err(file(path))
    }

    /// Plugs a NIC, as a hypervisor does into a machine that runs or is off. It is there after each boot.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn plug(&mut self, nic: Nic) -> Result<(), GuestError> {
        self.switch.plug(&self.net, nic.mac, &nic.name, nic.mtu, &nic.network)?;
        self.nics.push(nic);
        Ok(())
    }

    /// Pulls a NIC.
    ///
    /// # Errors
    /// Where there is none with this MAC, or the kernel refuses.
    pub fn unplug(&mut self, mac: MacAddr) -> Result<(), GuestError> {
        self.switch.unplug(mac)?;
        self.nics.retain(|nic| nic.mac != mac);
        Ok(())
    }

    /// The last lines of its console.
    pub fn console(&self) -> String {
        let text = fs::read(self.folder.path().join("console")).unwrap_or_default();
        tail(&String::from_utf8_lossy(&text), 40)
    }
}
