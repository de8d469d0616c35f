//! The changes that failed and were rolled back, kept over the death of the agent: what failed is not tried again at once by the
//! next one. A boot may well have mended the cause, so it ends the memory. Times are those of the kernel since the boot, which
//! nobody sets.

use std::collections::BTreeMap;
use std::time::Duration;

use multinic_core::MacAddr;
use multinic_core::node::NicTarget;
use serde::{Deserialize, Serialize};

/// The error of a change that was undone because its agent died.
pub const UNDONE: &str =
    "ApplyFailed: undone because the agent ended in the middle of it; everything is as it was before";

/// The failures of one boot, by NIC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failures {
    boot: String,
    nics: BTreeMap<MacAddr, Failed>,
}

/// A change that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What was tried; none where the NIC was to be taken away. Something else is tried at once.
    pub target: Option<NicTarget>,
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
    /// A failure that follows on one before it, which counts if it was of the same content.
    pub fn after(before: Option<&Self>, target: Option<NicTarget>, last: Duration, error: String) -> Self {
        let before = before.filter(|failed| failed.target == target).map_or(0, |failed| failed.count);
        Self { target, count: before.saturating_add(1), last, error, undone: false }
    }
}

impl Failures {
    /// Forgets what was before this boot.
    pub fn in_boot(&mut self, boot: String) {
        if self.boot != boot {
            *self = Self { boot, nics: BTreeMap::new() };
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nics.is_empty()
    }

    /// By MAC.
    pub fn nics(&self) -> &BTreeMap<MacAddr, Failed> {
        &self.nics
    }

    /// A change was undone because the agent died in the middle of it.
    pub fn undone(&mut self, mac: MacAddr, target: Option<NicTarget>) {
        let failed = Failed::after(self.nics.get(&mac), target, since_boot(), UNDONE.to_owned());
        self.nics.insert(mac, Failed { undone: true, ..failed });
    }

    /// Puts these in their place.
    pub fn set(&mut self, nics: BTreeMap<MacAddr, Failed>) {
        self.nics = nics;
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
    fn a_boot_ends_the_memory() {
        let mac: MacAddr = "fa:16:3e:00:00:01".parse().unwrap();
        let failed = Failed::after(None, None, since_boot(), "busy".to_owned());
        let mut failures = Failures::default();
        failures.in_boot("first".to_owned());
        failures.set(BTreeMap::from([(mac, failed.clone())]));
        failures.in_boot("first".to_owned());
        assert_eq!(failures.nics().get(&mac), Some(&failed));
        failures.in_boot("second".to_owned());
        assert!(failures.is_empty());
        assert!(!failed.last.is_zero() && since_boot() >= failed.last);
    }
}
