//! Settings of a link below `/proc/sys`, in the network namespace of this thread.
//!
//! The kernel takes a link's IPv6 settings nowhere else, and a container's own `/proc/sys` is read-only. So where the node's
//! `/proc/sys/net` is mounted below its root, that is the one; it belongs to the network namespace of whoever mounted it,
//! which is the node's, as ours is.

use std::io;
use std::path::{Path, PathBuf};

use multinic_core::node::observed::{Setting, Settings};

use crate::files::HostRoot;

/// Stands for the links to come.
pub const DEFAULT: &str = "default";

fn accept_ra(root: &HostRoot, link: &str) -> PathBuf {
    let mounted = root.path().join("proc/sys/net");
    let folder = if mounted.is_dir() { mounted.as_path() } else { Path::new("/proc/sys/net") };
    folder.join("ipv6/conf").join(link).join("accept_ra")
}

/// Whether and how the link takes up what routers advertise; none where there is no IPv6.
pub fn read_accept_ra(root: &HostRoot, link: &str) -> Option<String> {
    std::fs::read_to_string(accept_ra(root, link)).ok().map(|text| text.trim().to_owned())
}

/// Sets it.
pub fn write_accept_ra(root: &HostRoot, link: &str, value: &str) -> io::Result<()> {
    std::fs::write(accept_ra(root, link), value)
}

/// Whether it can be set here.
pub fn is_accept_ra_writable(root: &HostRoot) -> bool {
    rustix::fs::access(accept_ra(root, DEFAULT), rustix::fs::Access::WRITE_OK).is_ok()
}

/// The IPv4 settings of links to come, which the kernel tells in no other way. Where one cannot be read, it is taken to be
/// what the kernel has by itself.
pub fn defaults() -> Settings {
    let mut found = Settings::default();
    for setting in Setting::ALL {
        found.set(setting, read(DEFAULT, setting));
    }
    found
}

/// The IPv4 setting that every link has beside its own.
pub fn of_all(setting: Setting) -> u32 {
    read("all", setting)
}

fn read(link: &str, setting: Setting) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/{}", setting.key()));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
