//! The changes that failed and were rolled back, kept over the death of the agent: what failed is not tried again at once by the
//! next one. A boot may well have mended the cause, so it ends the memory. Times are those of the kernel since the boot, which
//! nobody sets.

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::NicTarget;
use serde::{Deserialize, Serialize};

use crate::of_boot::OfBoot;

/// The error of a change that was undone because its agent died.
pub const UNDONE: &str =
    "RolledBack: undone because the agent ended in the middle of it; everything is as it was before";

/// The failures of one boot, by NIC.
pub type Failures = OfBoot<BTreeMap<MacAddr, Failed>>;

/// A change that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What was tried; none where the NIC was to be taken away. Something else is tried at once.
    pub target: Option<NicTarget>,
    /// The kernel's index of the link that it was tried on. A NIC that was plugged anew is tried at once.
    #[serde(default)]
    pub link: Option<u32>,
    /// How often in a row.
    pub count: u32,
    /// When last, since the boot.
    pub last: Duration,
    /// Why.
    pub error: String,
    /// Whether it was undone because the agent died in the middle of it, and not by that agent.
    #[serde(default)]
    pub undone: bool,
}

impl Failed {
    /// Whether it was about the same content of the same link.
    pub fn is_of(&self, target: Option<&NicTarget>, link: Option<u32>) -> bool {
        self.target.as_ref() == target && self.link == link
    }

    /// A failure that follows on one before it, which counts if it was about the same.
    pub fn after(
        before: Option<&Self>,
        target: Option<NicTarget>,
        link: Option<u32>,
        last: Duration,
        error: String,
    ) -> Self {
        let before = before.filter(|failed| failed.is_of(target.as_ref(), link));
        let count = before.map_or(0, |failed| failed.count).saturating_add(1);
        Self { target, link, count, last, error, undone: false }
    }
}

impl Failures {
    /// A change was undone because the agent died in the middle of it.
    pub fn undone(&mut self, mac: MacAddr, target: Option<NicTarget>, link: Option<u32>) {
        let failed = Failed::after(self.nics.get(&mac), target, link, since_boot(), UNDONE.to_owned());
        self.nics.insert(mac, Failed { undone: true, ..failed });
    }
}

/// The time since the boot, with that in which the machine slept; none of it where the kernel does not tell.
pub fn since_boot() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|seconds| seconds.parse().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_boot_goes_on() {
        let then = since_boot();
        assert!(!then.is_zero() && since_boot() >= then);
    }
}
