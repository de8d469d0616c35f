//! Asks netplan itself whether it understands a file, in a scratch root where nothing else is.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use multinic_core::node::NicTarget;

use super::output;
use crate::backend::Backend;

/// It takes 0.2 s to 0.5 s; this is for a node that hardly moves.
const LONGEST: Duration = Duration::from_secs(30);

/// What `netplan generate` runs. Since netplan 1.1 that command also makes systemd reload everything, whatever root it is
/// given, and so carries out what others have in theirs; its generator only writes where it is told to.
const GENERATORS: [&str; 2] = ["/usr/libexec/netplan/generate", "/usr/lib/netplan/generate"];

/// netplan does not understand a file.
#[derive(Debug, thiserror::Error)]
#[error("{program} refuses the file of {interface}: {message}")]
pub struct CheckError {
    /// The program.
    pub program: PathBuf,
    /// The interface.
    pub interface: String,
    /// What it said.
    pub message: String,
}

/// netplan could not be asked.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    #[error("{0} did not end within {seconds} s", seconds = LONGEST.as_secs())]
    TooSlow(PathBuf),
    #[error("{program} cannot be run: {source}")]
    Io { program: PathBuf, source: io::Error },
}

/// What netplan's answer depends on. Within one shape the files differ only in a MAC, a name, addresses and an MTU, each
/// of which is written from a parsed value by a renderer whose every form is tested; so one answer for a shape is enough
/// as long as netplan is the same program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    program: (u64, u64, i64),
    ipv4: bool,
    ipv6: bool,
    several: bool,
    small_mtu: bool,
    routes_by_gateway: bool,
    routes_on_link: bool,
    source_routing: bool,
    vlan: bool,
}

/// netplan, where it is installed.
#[derive(Debug)]
pub struct Check {
    program: PathBuf,
    understood: Mutex<BTreeSet<Shape>>,
    /// Why it could not be asked the last time.
    unasked: Mutex<Option<String>>,
}

impl Check {
    /// Takes a program that is called as `PROGRAM --root-dir DIRECTORY`.
    pub fn new(program: PathBuf) -> Self {
        Self { program, understood: Mutex::default(), unasked: Mutex::default() }
    }

    /// Looks for netplan's generator where its versions have it.
    pub fn find() -> Option<Self> {
        GENERATORS.iter().map(PathBuf::from).find(|path| is_program(path)).map(Self::new)
    }

    /// Checks a NIC's file, unless one of the same shape was understood before. Where netplan cannot be asked, which says
    /// nothing of the file, [`Self::unasked`] says why.
    ///
    /// # Errors
    /// Where netplan does not understand the file.
    pub async fn check(&self, target: &NicTarget) -> Result<(), CheckError> {
        let asked = self.ask(target).await;
        let unasked = asked.as_ref().err().map(ToString::to_string);
        *self.unasked.lock().unwrap_or_else(PoisonError::into_inner) = unasked;
        match asked {
            Ok(Some(message)) => {
                let (program, interface) = (self.program.clone(), target.name.to_string());
                Err(CheckError { program, interface, message })
            }
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Why netplan could not be asked about the last file.
    pub fn unasked(&self) -> Option<String> {
        self.unasked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has against the file.
    async fn ask(&self, target: &NicTarget) -> Result<Option<String>, Unasked> {
        let failed = |source| Unasked::Io { program: self.program.clone(), source };
        let shape = self.shape(target).map_err(failed)?;
        if self.understood.lock().unwrap_or_else(PoisonError::into_inner).contains(&shape) {
            return Ok(None);
        }
        let scratch = scratch(target).map_err(failed)?;
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("--root-dir").arg(scratch.path()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LONGEST, command.output());
        let output = output.await.map_err(|_| Unasked::TooSlow(self.program.clone()))?.map_err(failed)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Ok(Some(format!("{}: {}", output.status, said.trim())));
        }
        // It may well end with success and have passed over a part.
        if let Some(difference) = difference(scratch.path(), target).map_err(failed)? {
            return Ok(Some(difference));
        }
        self.understood.lock().unwrap_or_else(PoisonError::into_inner).insert(shape);
        Ok(None)
    }

    fn shape(&self, target: &NicTarget) -> io::Result<Shape> {
        let program = self.program.metadata()?;
        let NicTarget { mac: _, name: _, addresses, mtu, options } = target;
        let routes = target.routes();
        Ok(Shape {
            program: (program.dev(), program.ino(), program.mtime()),
            ipv4: addresses.iter().any(|net| net.addr().is_ipv4()),
            ipv6: addresses.has_ipv6(),
            several: addresses.iter().nth(1).is_some(),
            // The least that IPv6 needs (RFC 8200), below which a checker may have an opinion.
            small_mtu: mtu.bytes() < 1280,
            routes_by_gateway: routes.iter().any(|route| route.gateway.is_some()),
            routes_on_link: routes.iter().any(|route| route.gateway.is_none()),
            source_routing: options.source_routing.is_some(),
            vlan: options.vlan.is_some(),
        })
    }
}

/// What its output for a NIC, and for the VLAN on it, is not like.
fn difference(scratch: &Path, target: &NicTarget) -> io::Result<Option<String>> {
    let nic = (target.name.to_string(), target.of_nic());
    let vlan = target.vlan().map(|vlan| (vlan.to_string(), Cow::Borrowed(target)));
    for (link, target) in std::iter::once(nic).chain(vlan) {
        let path = output::path(&link);
        let text = match std::fs::read_to_string(scratch.join(&path)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(format!("it makes no {}", path.display())));
            }
            Err(error) => return Err(error),
        };
        if let Some(difference) = output::difference(&text, &target) {
            return Ok(Some(format!("the {} that it makes {difference}", path.display())));
        }
    }
    Ok(None)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn scratch(target: &NicTarget) -> io::Result<tempfile::TempDir> {
    let scratch = tempfile::Builder::new().prefix("multinic-check-").tempdir()?;
    for file in Backend::Netplan.render(target) {
        let path = scratch.path().join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap_or(scratch.path()))?;
        std::fs::write(&path, &file.text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode))?;
    }
    Ok(scratch)
}
