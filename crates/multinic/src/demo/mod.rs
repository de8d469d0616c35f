//! `multinic demo`: the whole job on one machine. A simulated cloud, a SQLite database, the controller, and nodes, each
//! in a network namespace with the real agent; every step is verified in the kernel.

mod kernel;
mod ping;
mod report;
mod sandbox;
mod scenes;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

/// What the demo shows, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=50))]
    nodes: u8,
    /// How many NICs each node gets.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=10))]
    nics: u8,
    /// Leave everything running at the end, to look around, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Print the result as JSON instead of a table.
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Needs root or unprivileged user namespaces; the machine's own NICs, addresses and routes are not touched, and nothing is
left behind. multinic-agent must be beside this program, as a build leaves it.

Exit codes: 0 everything was verified in the kernel; 1 something was not, or the demo could not be run.";

/// How long one step may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays all scenes.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // While this process has one thread only: a user namespace can be entered by no other.
    sandbox::enter().context(
        "cannot make a network namespace; run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)",
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(scenes::loopback_up())?;
    let mut report = report::Report::new(args.json);
    let result = runtime.block_on(scenes::play(args, &mut report));
    if let Err(error) = &result {
        report.failed(error);
    }
    report.print()?;
    Ok(if result.is_ok() && report.all_verified() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
