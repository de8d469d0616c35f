//! What the subcommands that work in a cluster have in common.

use anyhow::Context as _;
use kube::{Client, Config};
use multinic_controller::sinks::kubernetes::kubeconfig::client_of;

/// Runs on one thread: nearly all time is spent waiting for others, and each further thread would keep memory of its own.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// The cluster that the environment leads to; `without` says what to do where there is none.
pub async fn config(without: &'static str) -> anyhow::Result<Config> {
    Config::infer().await.context(without)
}

/// A client of that cluster.
pub async fn client(without: &'static str) -> anyhow::Result<Client> {
    client_of(config(without).await?).context("cannot make a client of the cluster")
}

/// For what cannot work without a cluster.
pub const NO_CLUSTER: &str =
    "no cluster to work in: there is neither a ServiceAccount nor a kubeconfig (KUBECONFIG)";
