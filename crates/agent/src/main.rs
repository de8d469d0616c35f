//! `multinic-agent`: see `multinic-agent --help`.

use std::process::ExitCode;

use multinic_agent::{commands, config};
use multinic_telemetry::logs;

fn main() -> ExitCode {
    let lookup = |name: &str| std::env::var(name).ok();
    let request = match config::load(std::env::args_os(), lookup) {
        Ok(request) => request,
        Err(config::ConfigError::CommandLine(error)) => {
            // Nobody is left to tell when standard error is closed.
            let _ = error.print();
            // Help and version were asked for; everything else is a mistake, of which clap's own code, 2, says too little.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        Err(error) => {
            eprintln!("multinic-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    match start(request) {
        Ok(code) => code,
        Err(error) => {
            // Logs are what is collected from a pod; whoever typed the command reads them as well.
            tracing::error!(error = %error, "multinic-agent ends");
            ExitCode::FAILURE
        }
    }
}

fn start(request: config::Request) -> anyhow::Result<ExitCode> {
    if let Err(error) = logs::init(request.settings.log_format, request.settings.log_levels.clone()) {
        eprintln!("multinic-agent: {error}");
    }
    // One thread: the agent waits nearly always, and every thread costs memory on every node.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(commands::dispatch(request))
}
