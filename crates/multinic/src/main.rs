//! The control plane's binary.

mod backup;
mod clean_cluster;
mod clean_nodes;
mod controller;
mod crds;
mod demo;
mod objects;
mod operator;
mod process;
mod settings_environment;
mod settings_file;
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
    /// Back a MariaDB up, with proof that the backup can be restored; and restore it
    Backup(Box<backup::Args>),
    /// Delete the MultiNicOperators, and wait until what they made for the whole cluster is gone: before an end for good
    CleanCluster(clean_cluster::Args),
    /// Delete all configurations and nodes' objects, and wait until the agents have taken the NICs away: before an end for good
    CleanNodes(clean_nodes::Args),
    /// Read OpenStack, work out which NICs each node is to have, publish that to the database
    Controller(Box<controller::Args>),
    /// Print the definitions of the Kubernetes resources, for kubectl apply -f -
    Crds,
    /// Show the whole job on this machine: a simulated cloud, nodes in network namespaces, real kernel NICs
    Demo(demo::Args),
    /// Carry out a MultiNicOperator: the controller, its rights and settings, as the object wants them
    Operator(Box<operator::Args>),
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
    run().unwrap_or_else(|error| {
        eprintln!("multinic: {}", told_once(&error));
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command = settings_file::under(without_empty_variables(Cli::command()), &arguments)?;
    settings_environment::check_variables(&command, &arguments)?;
    let matches = command.get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Backup(args) => backup::run(*args),
        Command::CleanCluster(args) => clean_cluster::run(args),
        Command::CleanNodes(args) => clean_nodes::run(args),
        Command::Controller(args) => controller::run(*args),
        Command::Crds => crds::run().map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(&args),
        Command::Operator(args) => operator::run(*args),
        Command::Viola(args) => viola::run(*args),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_in_the_documentation() {
        let pages = ["configuration", "viola", "inventory", "operator"].map(|page| {
            let path = format!("{}/../../docs/{page}.md", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap_or_default()
        });
        let command = Cli::command();
        let settings = command.get_subcommands().flat_map(clap::Command::get_arguments);
        let variables: Vec<String> =
            settings.filter_map(|arg| Some(format!("`{}`", arg.get_env()?.to_str()?))).collect();
        assert!(variables.len() > 60, "{variables:?}");
        let missing: Vec<_> =
            variables.iter().filter(|name| !pages.iter().any(|page| page.contains(*name))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
