//! Who restores a NIC when this process dies in the middle of a change.
//!
//! * [`program`]: the program on the node that does it, our own, which needs nothing of the pod that wrote it there.
//! * [`mod@unit`]: a timer of the node's systemd that starts it.
//!
//! Where NetworkManager has the NIC, a checkpoint of its own stands beside that
//! ([`network_manager`](crate::manager::network_manager)). And the next start of the agent does the same, if it comes sooner:
//! all of them settle the journal, one at a time, under one lock.

use std::path::PathBuf;
use std::time::Duration;

use crate::backend::Backend;
use crate::files::HostRoot;
use crate::manager::bus::BusError;

pub mod program;
pub mod unit;

use program::{Installed, ProgramError};
use unit::Unit;

/// What is to be armed before a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// Where the program is put, as the node sees it; absolute.
    pub program: PathBuf,
    /// What it is called with, beside the network backend: what makes it settle the journal and end.
    pub arguments: Vec<String>,
    /// Whether a change is made where nothing can be armed.
    pub unarmed: bool,
}

/// Nothing can be armed.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// No bus, so no systemd that could be told.
    #[error("the node's system bus is not at {0}")]
    NoBus(PathBuf),
    /// systemd took it, and it is not there.
    #[error("systemd does not start {unit}: {found}")]
    NotStarted {
        /// The unit.
        unit: &'static str,
        /// How it stands.
        found: String,
    },
    /// The program does not run on the node.
    #[error(
        "{path} does not run on the node ({found}): it has to be linked statically, on a file system without noexec, and the \
         node's policies must let systemd run it"
    )]
    DoesNotRun {
        /// The program, as the node sees it.
        path: PathBuf,
        /// What became of it.
        found: String,
    },
}

/// What restores NICs if we die.
#[derive(Debug)]
pub(crate) struct Guard {
    pub settings: GuardSettings,
    after: Duration,
    arguments: Vec<String>,
    installed: Option<Installed>,
    armed: Option<Unit>,
    /// Said once, not with every change.
    pub complained: bool,
}

impl Guard {
    /// It acts so long after it was armed.
    pub fn new(settings: GuardSettings, after: Duration, backend: Backend) -> Self {
        // NetworkManager's own checkpoint goes first, and what it leaves is put right then.
        let grace = match backend {
            Backend::NetworkManager | Backend::Ifcfg => CHECKPOINT_FIRST,
            Backend::Netplan | Backend::Networkd | Backend::Wicked => Duration::ZERO,
        };
        let after = after.saturating_add(grace);
        // It may see more of the node than we do, and must not take it for another.
        let mut arguments = settings.arguments.clone();
        arguments.push(format!("--network-backend={}", backend.name()));
        Self { settings, after, arguments, installed: None, armed: None, complained: false }
    }

    /// Arms the timer, unless it is armed. It lasts until [`Self::stand_down`]: should it go off while we are at work, what
    /// it starts waits for our lock, which is free when we are dead.
    pub async fn arm(&mut self, root: &HostRoot) -> Result<(), GuardError> {
        let program = self.settings.program.clone();
        let installed = match self.installed.take() {
            Some(installed) if installed.is_untouched() => installed,
            _ => {
                // One that was tampered with is not relied on while it is replaced.
                self.stand_down().await;
                // Without a bus, all of it would be for nothing.
                let bus = unit::connect(root).await?;
                let installed = program::install(root, &program)?;
                installed.may_be_run()?;
                unit::try_out(&bus, &program).await?;
                installed
            }
        };
        installed.may_be_run()?;
        self.installed = Some(installed);
        if self.armed.is_none() {
            self.armed = Some(unit::arm(root, &program, &self.arguments, self.after).await?);
        }
        Ok(())
    }

    /// Disarms the timer. What fails is a timer that goes off and finds nothing to do.
    pub async fn stand_down(&mut self) {
        if let Some(armed) = self.armed.take()
            && let Err(error) = armed.disarm().await
        {
            tracing::warn!(%error, "the timer that would undo a change cannot be stopped; it finds nothing to undo");
        }
    }

    /// Disarms what an earlier run left behind.
    pub async fn stand_down_earlier(root: &HostRoot) {
        if let Err(error) = unit::disarm_any(root).await {
            tracing::debug!(%error, "no earlier timer can be looked for");
        }
    }
}

/// NetworkManager's rollback takes some seconds.
const CHECKPOINT_FIRST: Duration = Duration::from_secs(15);
