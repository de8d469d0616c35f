//! The control plane's binary.

mod controller;
mod crds;
mod demo;
mod viola;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use multinic_controller::settings::without_empty_variables;

/// Configures the NICs of Kubernetes nodes that are OpenStack VMs: from a Neutron port to a working interface.
#[derive(Debug, Parser)]
#[command(name = "multinic", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read OpenStack, work out which NICs each node is to have, publish that to the database
    Controller(Box<controller::Args>),
    /// Print the definitions of the Kubernetes resources, for kubectl apply -f -
    Crds,
    /// Show the whole job on this machine: a simulated cloud, nodes in network namespaces, real kernel NICs
    Demo(demo::Args),
    /// Serve the Viola API: take nodes over HTTP, make MultiNicNodeConfig objects of them in their clusters
    Viola(Box<viola::Args>),
}

const AFTER_HELP: &str = "\
Examples:
  multinic demo
      Everything at once on this machine; nothing is left behind.
  DATABASE_URL=sqlite:///var/lib/multinic/multinic.db multinic controller --standalone /etc/multinic/configs
      Follow a directory of OpenstackConfig files.
  DB_PASSWORD=… multinic controller --standalone configs --db-host mariadb --db-user multinic --once
      One pass against MariaDB, then an exit code.

Exit codes:
  0  everything is as it should be
  1  could not start, or failed as a whole: the message says what and why
  2  wrong arguments; with --once: at least one configuration is not as its spec wants it";

fn main() -> ExitCode {
    let matches = without_empty_variables(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Controller(args) => controller::run(*args),
        Command::Crds => crds::run().map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(&args),
        Command::Viola(args) => viola::run(*args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("multinic: {}", told_once(&error));
        ExitCode::FAILURE
    })
}

/// The error and its causes. Most of ours tell their cause themselves; what was said is not said again.
fn told_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
