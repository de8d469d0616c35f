//! `multinic clean-nodes`: all configurations and nodes' objects deleted, and the agents waited for.

mod agents;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube::core::ApiResource;
use multinic_api::{MultiNicNodeConfig, OpenstackConfig};
use multinic_core::duration;

use crate::objects::Kind;
use crate::process::{NO_CLUSTER, block_on, client};

/// What is waited for, and how long.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Really: every configuration is deleted, and every node loses the NICs that it had by them.
    #[arg(long)]
    yes: bool,
    /// Namespace of the MultiNicNodeConfigs.
    #[arg(long, env = "POD_NAMESPACE", default_value = "multinic-system")]
    pod_namespace: String,
    /// Ask the agents, on this port of their nodes, whether they have given every NIC back. Agents that read the database need it:
    /// no object waits for them.
    #[arg(long, value_name = "PORT")]
    ask_agents: Option<u16>,
    /// How long controller and agents are waited for.
    #[arg(long, value_parser = duration::parse_positive, default_value = "10m")]
    timeout: Duration,
}

const AFTER_HELP: &str = "\
Controller and agents have to run: they do the work. A line says what became of each object. The exit code is 1 where something
is left in the end, and 2 without --yes, when nothing is done.";

/// Deletes, waits, and says what became of each node.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !args.yes {
        eprintln!("multinic clean-nodes takes the NICs off every node; nothing is done without --yes");
        return Ok(ExitCode::from(2));
    }
    block_on(clean(args))
}

async fn clean(args: Args) -> anyhow::Result<ExitCode> {
    let Args { yes: _, pod_namespace, ask_agents, timeout } = args;
    let client = client(NO_CLUSTER).await?;
    let deadline = Instant::now() + timeout;
    // The controller takes away what it made of these. What is left then somebody made by hand.
    let configs = Kind::everywhere(client.clone(), &ApiResource::erase::<OpenstackConfig>(&()));
    let nodes = Kind::within(client.clone(), &pod_namespace, &ApiResource::erase::<MultiNicNodeConfig>(&()));
    for kind in [configs, nodes] {
        let left = kind.delete_all(deadline).await?;
        if !left.is_empty() {
            for (name, state) in left {
                println!("left: {name}: {state}");
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    println!("no configuration is left, and no node's object in namespace {pod_namespace}");
    if let Some(port) = ask_agents {
        let holding = agents::until_free(&client, &pod_namespace, port, deadline).await?;
        for (node, state) in &holding {
            println!("left: node {node}: {state}");
        }
        if !holding.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        println!("every agent says that its node has no NIC of ours");
    }
    Ok(ExitCode::SUCCESS)
}
