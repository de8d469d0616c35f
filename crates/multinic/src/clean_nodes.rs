//! `multinic clean-nodes`: all configurations and nodes' objects deleted, and the agents waited for.

mod agents;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use multinic_api::{MultiNicNodeConfig, OpenstackConfig};
use multinic_core::duration;

use crate::process::{NO_CLUSTER, block_on, client};

/// How often it is looked whether something is gone.
const PAUSE: Duration = Duration::from_secs(1);

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

/// All objects of a kind, of one namespace or of all.
struct Kind {
    name: String,
    client: Client,
    resource: ApiResource,
    namespace: Option<String>,
}

impl Kind {
    fn everywhere(client: Client, resource: &ApiResource) -> Self {
        Self { name: resource.kind.clone(), client, resource: resource.clone(), namespace: None }
    }

    fn within(client: Client, namespace: &str, resource: &ApiResource) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::everywhere(client, resource) }
    }

    fn api(&self) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
            None => Api::all_with(self.client.clone(), &self.resource),
        }
    }

    /// What there is, with what it says of itself. Without its definition there is none.
    async fn list(&self) -> Result<Vec<DynamicObject>, kube::Error> {
        match self.api().list(&ListParams::default()).await {
            Ok(list) => Ok(list.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Deletes what there is and waits until it is gone; what is left at the deadline, with its state. A read that fails is
    /// tried again until then: it is no proof that nothing is there.
    async fn delete_all(&self, deadline: Instant) -> anyhow::Result<BTreeMap<String, String>> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        loop {
            match self.list().await {
                Ok(there) => {
                    let now: BTreeMap<_, _> = there.iter().map(|it| (self.label(it), state(it))).collect();
                    for gone in known.keys().filter(|name| !now.contains_key(*name)) {
                        println!("gone: {gone}");
                    }
                    known = now;
                    if known.is_empty() {
                        return Ok(known);
                    }
                    for object in there.iter().filter(|it| it.meta().deletion_timestamp.is_none()) {
                        self.delete(object).await?;
                    }
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("cannot list {}s", self.name));
                }
                Err(error) => println!("cannot list {}s, trying again: {error}", self.name),
            }
            if Instant::now() > deadline {
                return Ok(known);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn delete(&self, object: &DynamicObject) -> anyhow::Result<()> {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &self.resource);
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete {}", self.label(object))),
        }
    }

    fn label(&self, object: &DynamicObject) -> String {
        format!("{} {}/{}", self.name, object.namespace().unwrap_or_default(), object.name_any())
    }
}

/// What a person needs to know of an object that stays: the message of its condition Ready.
fn state(object: &DynamicObject) -> String {
    let conditions = object.data.pointer("/status/conditions").and_then(|list| list.as_array());
    let ready = conditions.and_then(|list| list.iter().find(|one| one["type"] == "Ready"));
    let message = ready.and_then(|one| one["message"].as_str()).unwrap_or("it says nothing");
    let finalizers = object.finalizers().join(", ");
    format!("{message} (finalizers: {finalizers})")
}
