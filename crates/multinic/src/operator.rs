//! `multinic operator`.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context;
use multinic_controller::settings::LogArgs;
use multinic_operator::Operator;
use multinic_operator::metrics::Metrics;
use multinic_operator::settings::OperatorArgs;
use multinic_telemetry::pages::PageServer;
use multinic_telemetry::process::ProcessFigures;
use multinic_telemetry::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use crate::process::{NO_CLUSTER, block_on, client};
use crate::settings_file::FileArg;

/// How the operator is run.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    _file: FileArg,
    #[command(flatten)]
    operator: OperatorArgs,
    /// Address on which health and metrics are served.
    #[arg(long, env = "HEALTH_ADDR", default_value = "0.0.0.0")]
    health_addr: IpAddr,
    /// Port of /healthz and /readyz, and of /metrics too; 0 takes a free one.
    #[arg(long, env = "HEALTH_PORT", default_value_t = 8082)]
    health_port: u16,
    /// Port of /metrics alone; 0 takes a free one.
    #[arg(long, env = "METRICS_PORT", default_value_t = 8080)]
    metrics_port: u16,
    /// Address on which API servers are answered.
    #[arg(long, env = "WEBHOOK_ADDR", default_value = "0.0.0.0")]
    webhook_addr: IpAddr,
    /// Port on which API servers are answered, by way of the Service multinic-operator, which has the same; 0 takes a free one.
    #[arg(long, env = "WEBHOOK_PORT", default_value_t = 9443)]
    webhook_port: u16,
    #[command(flatten)]
    logs: LogArgs,
}

const AFTER_HELP: &str = "\
Every flag is also an environment variable, named in brackets, and a key of the --config file:
in lower case with underscores, such as health_port. The command line goes before the
environment, and that before the file.

The oldest MultiNicOperator of the namespace is carried out. What it makes bears the label
app.kubernetes.io/managed-by=multinic-operator; nothing else is ever removed.";

/// Runs until SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let Args { _file: _, operator, health_addr, health_port, metrics_port, webhook_addr, webhook_port, logs } =
        args;
    multinic_telemetry::logs::init(logs.log_format, logs.log_level).context("cannot set up the log")?;
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let client = client(NO_CLUSTER).await?;
    let metrics = Metrics::default();
    let operator = Operator::new(client, &operator, metrics.clone())?;
    for port in [health_port, metrics_port] {
        let server = PageServer::bind(health_addr, port).await?;
        tokio::spawn(server.serve(operator.pulse().pages(registry(&metrics)), shutdown.clone()));
    }
    let webhook = operator.webhook().bind(webhook_addr, webhook_port)?;
    tokio::spawn(webhook.serve(shutdown.clone()));
    operator.run(shutdown).await;
    Ok(ExitCode::SUCCESS)
}

fn registry(metrics: &Metrics) -> Registry {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    registry.register_collector(Box::new(ProcessFigures));
    registry
}
