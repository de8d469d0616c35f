//! `multinic clean-cluster`: the `MultiNicOperator`s of a namespace deleted, and what was made for them elsewhere.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::Client;
use kube::core::ApiResource;
use multinic_api::MultiNicOperator;
use multinic_core::duration;
use multinic_operator::apply::take_away;
use multinic_operator::manifests::Manifests;
use multinic_operator::observe::observe;
use multinic_operator::plan::{Removal, left_over};

use crate::objects::{Kind, PAUSE};
use crate::process::{NO_CLUSTER, block_on, client};

/// What is waited for, and how long.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Really: controller, agents and database that an operator made go with its object.
    #[arg(long)]
    yes: bool,
    /// Namespace of the MultiNicOperators.
    #[arg(long, env = "POD_NAMESPACE", default_value = "multinic-system")]
    pod_namespace: String,
    /// How long the operator is given for its part. After that this program does it.
    #[arg(long, value_parser = duration::parse_positive, default_value = "1m")]
    patience: Duration,
    /// How long all of it may take.
    #[arg(long, value_parser = duration::parse_positive, default_value = "10m")]
    timeout: Duration,
}

const AFTER_HELP: &str = "\
What the operator made in its namespace goes with the object; data and passwords stay where its deletionPolicy says so. Roles,
admission policies and webhooks of the whole cluster are waited for. The exit code is 1 where something is left in the end, and
2 without --yes, when nothing is done.";

/// Deletes, waits, and says what is left.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !args.yes {
        eprintln!("multinic clean-cluster ends what the operator runs; nothing is done without --yes");
        return Ok(ExitCode::from(2));
    }
    block_on(clean(args))
}

async fn clean(args: Args) -> anyhow::Result<ExitCode> {
    let Args { yes: _, pod_namespace, patience, timeout } = args;
    let client = client(NO_CLUSTER).await?;
    let started = Instant::now();
    let deadline = started + timeout;
    let operators =
        Kind::within(client.clone(), &pod_namespace, &ApiResource::erase::<MultiNicOperator>(&()));
    let mut left: Vec<String> = operators
        .delete_all(deadline)
        .await?
        .into_iter()
        .map(|(name, state)| format!("{name}: {state}"))
        .collect();
    if left.is_empty() {
        left = until_gone(&client, &pod_namespace, started + patience, deadline).await?;
    }
    for object in &left {
        println!("left: {object}");
    }
    if !left.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("nothing is left that an operator of namespace {pod_namespace} made elsewhere");
    Ok(ExitCode::SUCCESS)
}

/// Waits until the operator has taken away what it made outside of its namespace, and does so itself where it has not by then.
/// What is left at the deadline.
async fn until_gone(
    client: &Client,
    namespace: &str,
    patience: Instant,
    deadline: Instant,
) -> anyhow::Result<Vec<String>> {
    let manifests = Manifests::of(namespace)?;
    loop {
        match observe(client, namespace).await {
            Ok(mut observed) => {
                // Whatever its labels say, no operator made it.
                observed.objects.retain(|key, _| manifests.may_be_made(key));
                let left = left_over(namespace, &BTreeSet::new(), &observed);
                if left.is_empty() || Instant::now() > deadline {
                    return Ok(left.iter().map(|removal| removal.key.to_string()).collect());
                }
                if Instant::now() > patience {
                    take_all_away(client, &left).await;
                }
            }
            Err(error) if Instant::now() > deadline => return Err(error).context("cannot see what is left"),
            Err(error) => println!("trying again: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn take_all_away(client: &Client, left: &[Removal]) {
    for removal in left {
        match take_away(client, removal).await {
            Ok(_) => println!("taken away, since the operator did not: {}", removal.key),
            Err(error) => println!("cannot take away {}, trying again: {error}", removal.key),
        }
    }
}
