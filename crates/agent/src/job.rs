//! `RUN_MODE=job`: one pass, as the pods of a Kubernetes Job make it, or one clean-up.

use std::process::ExitCode;

use jiff::Timestamp;
use multinic_host::Access;
use multinic_telemetry::shutdown::Shutdown;

use crate::commands::{self, Parts};
use crate::config::Settings;
use crate::cycle::Cycle;
use crate::facts::Facts;
use crate::termination;

/// Reads once, makes one pass, and reports it; the exit code and the termination message say how it went.
pub async fn apply(settings: Settings) -> anyhow::Result<ExitCode> {
    commands::announce(&settings);
    let shutdown = Shutdown::on_signals()?;
    let access = if settings.dry_run { Access::Read } else { Access::Write };
    let mut parts = Parts::new(&settings, access).await?;
    serve(&settings, &mut parts, &shutdown).await;
    let source = commands::source(&settings).await?;
    let mut agent = parts.agent(&settings, source, settings.dry_run);
    let cycle = agent.cycle(&shutdown).await;
    let ended = match cycle {
        Ok(Cycle::Passed(passed, _)) => {
            let facts = agent.facts(&passed).unwrap_or_default();
            let known = agent.node_known();
            finish(&settings, &facts, passed.released, facts.leaving.len());
            anyhow::ensure!(known, "the source does not know a node of this name; nothing was done");
            Ok(exit_code(&facts, settings.complete_on_partial_failure))
        }
        Ok(Cycle::Unread(error)) => Err(error.into()),
        Ok(Cycle::Stale) => {
            Err(anyhow::anyhow!("the source is older than what was read before; nothing was done"))
        }
        Ok(Cycle::Stopped) => Err(anyhow::anyhow!("stopped before anything was done")),
        Err(error) => Err(error.into()),
    };
    agent.into_source().finish().await;
    ended
}

/// Takes everything of ours away, as `AGENT_ACTION=cleanup` asks.
pub async fn clean_up(settings: Settings) -> anyhow::Result<ExitCode> {
    commands::announce(&settings);
    let shutdown = Shutdown::on_signals()?;
    let access = if settings.dry_run { Access::Read } else { Access::Write };
    let mut parts = Parts::new(&settings, access).await?;
    serve(&settings, &mut parts, &shutdown).await;
    let done = commands::take_away(&settings, parts, &shutdown).await?;
    finish(&settings, &Facts::default(), done.taken_away, done.left.len());
    Ok(if done.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The probes of a job's pod are those of a service. A service on the same node may have the port; the job goes on.
async fn serve(settings: &Settings, parts: &mut Parts, shutdown: &Shutdown) {
    match parts.pages(settings).await {
        Ok(pages) => pages.serve(&parts.metrics, &parts.board, shutdown),
        Err(error) => tracing::warn!(error = %error, "the job goes on without health and metrics"),
    }
}

/// Partial success is success, unless that is not wanted; nothing to do is success as well.
fn exit_code(facts: &Facts, complete_on_partial_failure: bool) -> ExitCode {
    let (all, done) = (facts.nics.len(), facts.configured());
    if done == all || (done > 0 && complete_on_partial_failure) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn finish(settings: &Settings, facts: &Facts, deleted: usize, delete_errors: usize) {
    if facts.nics.is_empty() && deleted == 0 && delete_errors == 0 {
        return;
    }
    let node = settings.node.as_str();
    let message = termination::message(node, facts, deleted, delete_errors, Timestamp::now());
    if let Err(error) = termination::write(&settings.termination_log, &message) {
        tracing::warn!(
            node_name = node,
            path = %settings.termination_log.display(),
            error = %error,
            "the termination message could not be written"
        );
    }
}
