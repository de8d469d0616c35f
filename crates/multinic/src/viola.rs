//! `multinic viola`.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use multinic_controller::settings::LogArgs;
use multinic_controller::sinks::kubernetes::kubeconfig::choose_cryptography;
use multinic_controller::viola::Viola;
use multinic_controller::viola::settings::ViolaServerArgs;
use multinic_telemetry::pages::{HealthDocument, PageServer, Pages};
use multinic_telemetry::process::ProcessFigures;
use multinic_telemetry::shutdown::Shutdown;
use multinic_telemetry::uptime::uptime;
use prometheus_client::registry::Registry;

use crate::process::block_on;
use crate::settings_file::FileArg;

/// How the Viola API is run.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    _file: FileArg,
    #[command(flatten)]
    server: ViolaServerArgs,
    /// Address on which health and metrics are served.
    #[arg(long, env = "HEALTH_ADDR", default_value = "0.0.0.0")]
    health_addr: IpAddr,
    /// Port of health and metrics; 0 takes a free one.
    #[arg(long, env = "HEALTH_PORT", default_value_t = 8082)]
    health_port: u16,
    #[command(flatten)]
    logs: LogArgs,
}

const AFTER_HELP: &str = "\
Every flag is also an environment variable, named in brackets, and a key of the --config file:
in lower case with underscores, such as listen_addr. The command line goes before the
environment, and that before the file.

Secrets are no flags, since everybody on the machine can read the arguments of a process:
  KUBE_TOKEN  bearer token for the local cluster, which does not rotate; goes before
              --kube-token-path

The page /docs describes the API, and works without a network.";

/// Serves until SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let Args { _file: _, server, health_addr, health_port, logs } = args;
    multinic_telemetry::logs::init(logs.log_format, logs.log_level).context("cannot set up the log")?;
    choose_cryptography();
    let settings = server.settings(environment)?;
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessFigures));
    let viola = Viola::start(settings, &mut registry).await?;
    let pages = PageServer::bind(health_addr, health_port).await?;
    tokio::spawn(pages.serve(health(registry), shutdown.clone()));
    viola.serve(shutdown).await;
    Ok(ExitCode::SUCCESS)
}

fn health(registry: Registry) -> Pages {
    let started = Instant::now();
    Pages {
        registry,
        // It has no rounds to be late with: whoever answers this would answer a post.
        live: Box::new(|| Ok(())),
        ready: Box::new(|| Ok(())),
        health: Box::new(move || {
            HealthDocument::ok(
                serde_json::json!({ "status": "healthy", "uptime": uptime(started.elapsed()) }),
            )
        }),
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
