//! The demo's own corner of the machine.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Takes this process, which must have a single thread, into a network namespace of its own; without root by way of a
/// user namespace in which it is root. The simulated cloud and the controller talk over this namespace's loopback.
pub fn enter() -> std::io::Result<()> {
    if geteuid().is_root() {
        unshare(CloneFlags::CLONE_NEWNET)?;
    } else {
        let (user, group) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
        // user_namespaces(7): without this the group cannot be mapped by an ordinary user.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
        USER_NAMESPACE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether it took a user namespace, into which others have to go too.
pub fn needs_user_namespace() -> bool {
    USER_NAMESPACE.load(Ordering::Relaxed)
}

static USER_NAMESPACE: AtomicBool = AtomicBool::new(false);
