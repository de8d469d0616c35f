//! Settings of a link below `/proc/sys`, in the network namespace of this thread. They are the process' own, and so never
//! below the node's root.

use std::io;
use std::path::PathBuf;

/// Stands for the links to come.
pub const DEFAULT: &str = "default";

fn accept_ra(link: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", link, "accept_ra"].iter().collect()
}

/// Whether and how the link takes up what routers advertise; none where there is no IPv6.
pub fn read_accept_ra(link: &str) -> Option<String> {
    std::fs::read_to_string(accept_ra(link)).ok().map(|text| text.trim().to_owned())
}

/// Sets it.
pub fn write_accept_ra(link: &str, value: &str) -> io::Result<()> {
    std::fs::write(accept_ra(link), value)
}
