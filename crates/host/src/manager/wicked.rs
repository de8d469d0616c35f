//! wicked. It is told by its own program, which has no use of a root that is not its own: an agent in a container leaves
//! it at the files, which the next boot reads. The program exits with 0 for addresses that it could not read, and waits
//! half a minute for a NIC that is not there; what it made is seen by looking at the kernel afterwards.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use multinic_core::node::NicTarget;

use super::ManagerError;
use crate::files::HostRoot;
use crate::running::Daemon;

const PROGRAM: &str = "/usr/sbin/wicked";

/// Longer than it waits for a NIC by itself.
const LONGEST: Duration = Duration::from_secs(45);

/// Why it cannot be told, where it runs.
pub fn untold(root: &HostRoot) -> Option<&'static str> {
    if !Daemon::Wicked.runs(root) {
        None
    } else if !root.is_own() {
        Some("the node's wicked cannot be told from within a container, and reads the files at the next boot")
    } else if !Path::new(PROGRAM).exists() {
        Some("wicked runs, and its program is not installed; it reads the files at the next boot")
    } else {
        None
    }
}

/// Makes it take up a NIC of ours, with its VLAN.
pub async fn adopt(root: &HostRoot, target: &NicTarget) -> Result<(), ManagerError> {
    if !Daemon::Wicked.runs(root) || untold(root).is_some() {
        return Ok(());
    }
    let program = PathBuf::from(PROGRAM);
    let mut command = tokio::process::Command::new(&program);
    command.arg("ifup").arg(target.name.to_string());
    command.args(target.vlan().map(|vlan| vlan.to_string())).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |reason: String| ManagerError::Program { program: program.clone(), reason };
    let output = tokio::time::timeout(LONGEST, command.output()).await;
    let output = output.map_err(|_| failed(format!("it did not end within {} s", LONGEST.as_secs())))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    Ok(())
}
