//! Nodes that boot: a Debian with its own systemd, udev, D-Bus and network manager, in a container of systemd-nspawn.
//!
//! * [`Rootfs`]: the file systems they boot from, built once.
//! * [`Guest`]: one of them, booted, with NICs that are plugged and unplugged while it runs; it can be rebooted, reset and
//!   stopped.
//! * [`Kernel`]: another kernel than this machine's, for what that lacks.
//!
//! They need root and, from Debian, mmdebstrap and systemd-container. A boot takes about two seconds. Everything of a guest
//! (mounts, processes, network) is in namespaces of its own, and ends with the process that started it, however that one
//! ends; nothing stays on the machine but the cache of file systems.

mod agreement;
mod boot;
pub(crate) mod cache;
pub(crate) mod error;
mod handle;
mod kernel;
mod rootfs;

pub use agreement::Asked;
pub use error::GuestError;
pub use handle::{Guest, Nic};
pub use kernel::Kernel;
pub use rootfs::{NetworkManagement, Release, Rootfs};
pub(crate) use rootfs::{bootstrap, succeed, succeed_with, tail};
