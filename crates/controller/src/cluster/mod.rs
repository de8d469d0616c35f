//! The controller in a cluster: [`OpenstackConfig`](multinic_api::OpenstackConfig) objects are watched, and what a pass
//! comes to is told in their statuses.
//!
//! * [`settings`]: every flag, environment variable and default.
//! * [`lease`]: one of several controllers works, the others stand by.
//! * [`watch`]: the objects as the API server has them.
//! * [`manifest`], [`secrets`], [`clouds_yaml`]: from an object and its Secrets to the planner's value.
//! * [`finalizer`]: a deleted configuration stays until what it published is gone.
//! * [`placement`], [`project`], `publish`, `deliver`, `rounds`, `access`, `failures`, `removals`, `records`: what is published,
//!   to the sinks of each configuration and the inventory. `absent`: where what belongs to a configuration goes that is not
//!   there.
//! * `places`, `moves`, `farewells`, `leave`: what configurations leave behind that are published elsewhere now. `gone`: nodes that will
//!   never clean up.
//! * [`rabbitmq`]: what Contrabass says of a message broker, as a Secret.
//! * [`restore`]: a ledger that was lost. `ledger`: one that may be an old copy.
//! * [`triggers`], [`webhook`]: when a configuration is carried out.
//! * [`conditions`], [`events`]: what users are told.
//! * `reconciler`: the turns of the leader around [`pass`](crate::pass); `report`: who is told what.
//!
//! What is removed, and what is not:
//! * An interface goes when its configuration's spec lets go of it, when the cloud says so (with the brake on many at once,
//!   as everywhere), or when somebody deletes the configuration. Such a deletion is meant: it is not held, also where it is
//!   the last configuration or all of them.
//! * A list that lacks a configuration, whatever the reason, removes nothing: an API server restored from a backup, a
//!   finalizer taken away by hand, a namespace that is not watched any more. What it published stays and is counted
//!   (`multinic_controller_orphaned_interfaces`); made again and deleted, the configuration takes it along.
//! * Nor does the deletion of the resource definition, which deletes every configuration without anybody having meant one.
//! * While the watch is broken, nothing is removed at all; what is new is still published.
//!
//! What it costs: a Secret is read when its configuration's cloud is (the right to `get` Secrets is enough); a status is
//! written when it says something else, and for `lastSyncedAt` alone at most once a minute; sinks are compared when the
//! ledger, a placement or an object changed.
//!
//! Rights: get, list, watch, patch of openstackconfigs; patch of openstackconfigs/status; get of secrets, and patch where a
//! `rabbitmq-*` Secret is wanted; get of the customresourcedefinition; create and patch of events (events.k8s.io); get of
//! nodes; get, create, update of leases in its own namespace; get, list, watch, create, patch, delete of multinicnodeconfigs
//! in the namespaces that it publishes to; create of tokenreviews and subjectaccessreviews for RECONCILE_TOKEN_REVIEW.

mod absent;
mod access;
pub mod clouds_yaml;
pub mod conditions;
mod deliver;
mod entry;
pub mod events;
mod failures;
mod farewells;
pub mod finalizer;
mod gone;
pub mod lease;
mod leave;
mod ledger;
pub mod manifest;
pub mod metrics;
mod moves;
pub mod placement;
mod places;
pub mod project;
mod publish;
pub mod rabbitmq;
mod reconciler;
mod records;
mod removals;
mod report;
pub mod restore;
mod rounds;
pub mod secrets;
pub mod settings;
pub mod triggers;
pub mod watch;
pub mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use multinic_core::config::Defaults;
use multinic_core::fleet::FleetLimits;
use multinic_openstack::Gate;
use multinic_store::{Store, StoreError};
use multinic_telemetry::shutdown::Shutdown;
use tokio::sync::watch::error::RecvError;
use tokio::sync::watch::{Receiver, channel};

use crate::inventory::Inventory;
use crate::metrics::Metrics;
use crate::pass::Controller;
use crate::pulse::Pulse;
use crate::sinks::SinkError;
use crate::sinks::kubernetes::kubeconfig::client_of;
use crate::sinks::viola::ViolaArgs;
use deliver::Deliverer;
use finalizer::Definition;
use gone::Gone;
use lease::{Candidate, Claim, ElectionError, Leadership, Standing};
use metrics::ClusterMetrics;
use reconciler::{Reconciler, reads};
use report::Reporter;
use settings::{ClusterArgs, ClusterSettingsError};
use triggers::Triggers;
use watch::{View, configs, follow};
use webhook::{Callers, Webhook, WebhookError};

/// How often a controller that stands by shows that it turns.
const STAND_BY: Duration = Duration::from_secs(30);

/// What a controller in a cluster is made of.
pub struct Setup {
    /// The API server, for clients as of [`client_of`].
    pub config: Config,
    /// Its settings.
    pub args: ClusterArgs,
    /// The ledger: what was published, and the memory of slots.
    pub store: Store,
    /// The bound on requests to clouds.
    pub gate: Gate,
    /// The planner's limits.
    pub limits: FleetLimits,
    /// How long tombstones are kept.
    pub retention: Duration,
    /// What configurations get where they are silent.
    pub defaults: Defaults,
    /// Digests of held removals that were confirmed, beside those in annotations of configurations.
    pub confirmed: BTreeSet<String>,
    /// The inventory, if it is kept.
    pub inventory: Option<Inventory>,
    /// The flags for Viola.
    pub viola: ViolaArgs,
    /// Looks a variable up that is secret and so no flag: `VIOLA_TOKEN`.
    pub environment: fn(&str) -> Option<String>,
    /// The pass's metrics.
    pub metrics: Metrics,
    /// The metrics of the work with the cluster.
    pub cluster_metrics: ClusterMetrics,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("args", &self.args).field("store", &self.store).finish_non_exhaustive()
    }
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Its settings.
    #[error(transparent)]
    Settings(#[from] ClusterSettingsError),
    /// The port of the webhook.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] StoreError),
    /// How the API server is spoken to.
    #[error("cannot make a client of the cluster: {0}")]
    Client(#[from] SinkError),
    /// The election.
    #[error(transparent)]
    Election(#[from] ElectionError),
    /// What follows the configurations has ended, which it does of itself never.
    #[error("the configurations are not followed any more: {0}")]
    Unfollowed(RecvError),
    /// The ledger was emptied, or another one is in its place. Whoever starts anew makes its tables, and fills them from what is
    /// published.
    #[error(
        "the ledger's tables are gone, so this controller ends: its next start makes and fills them. {0}"
    )]
    LedgerGone(StoreError),
}

/// The controller over an API server.
pub struct Cluster {
    setup: Setup,
    client: Client,
    triggers: Triggers,
    identity: String,
    webhook: Option<Webhook>,
    pulse: Arc<Pulse>,
    view: Receiver<View>,
    follower: tokio::task::JoinHandle<()>,
    claim: Claim,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("setup", &self.setup)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Cluster {
    /// Begins to follow the configurations. Nothing is carried out before [`Self::run`].
    pub async fn start(setup: Setup) -> Result<Self, ClusterError> {
        let args = &setup.args;
        let client = client_of(setup.config.clone())?;
        let triggers = args.triggers()?;
        let namespace =
            args.watch_namespace.as_deref().map(str::trim).filter(|namespace| !namespace.is_empty());
        let webhook = match args.takes_posts() {
            true => {
                let audiences = args.reconcile_token_audiences.iter();
                let callers = Callers {
                    token_file: args.reconcile_token_file.clone(),
                    review: args.reconcile_token_review,
                    audiences: audiences.filter(|audience| !audience.is_empty()).cloned().collect(),
                };
                let (ip, port) = (args.reconcile_addr, args.reconcile_port);
                Some(Webhook::bind(ip, port, client.clone(), namespace, callers).await?)
            }
            false => None,
        };
        let (sender, view) = channel(View::default());
        let api = configs(client.clone(), namespace);
        let follower = tokio::spawn(follow(api, sender, setup.cluster_metrics.clone()));
        let identity = args.identity();
        if let Some(inventory) = &setup.inventory {
            inventory.is_written(false);
        }
        let (is_file, is_empty) = (!setup.store.is_server(), restore::is_lost(&setup.store).await?);
        let claim = Claim {
            epoch: setup.store.position().await?.epoch,
            exclusive: is_file && !is_empty && !args.ledger_takeover,
            filled_by_leading: is_file && is_empty && !args.ledger_takeover,
            refusal: tokio::sync::watch::Sender::new(None),
        };
        Ok(Self { triggers, identity, webhook, pulse: Arc::default(), view, follower, claim, client, setup })
    }

    /// What probes see of the loop.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Whether a complete list of the configurations was seen. A controller that stands by is ready too, unless it could not
    /// lead.
    pub fn ready(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let (view, refusal) = (self.view.clone(), self.claim.refusal.subscribe());
        move || {
            if let Some(problem) = &*refusal.borrow() {
                return Err(problem.clone());
            }
            let view = view.borrow();
            match (view.listed, &view.error) {
                (true, _) => Ok(()),
                (false, Some(error)) => Err(error.clone()),
                (false, None) => Err("the OpenstackConfigs have not been listed yet".to_owned()),
            }
        }
    }

    /// Where reconciliations can be asked for over HTTP, if they can.
    pub fn webhook_address(&self) -> Option<SocketAddr> {
        self.webhook.as_ref().map(Webhook::address)
    }

    /// Works whenever this process leads, until a stop is requested.
    ///
    /// # Errors
    /// Where it cannot stand for election, or does not any more.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<(), ClusterError> {
        if let Some(webhook) = self.webhook.take() {
            tokio::spawn(webhook.serve(shutdown.clone()));
        }
        let (mut leadership, standing) = self.stand().await?;
        let works = |works: bool| {
            if let Some(inventory) = &self.setup.inventory {
                inventory.is_written(works);
            }
        };
        let ended = loop {
            tokio::select! {
                gained = leadership.gained() => gained?,
                () = tokio::time::sleep(STAND_BY) => {
                    self.pulse.turn();
                    continue;
                }
                () = shutdown.requested() => break Ok(()),
            }
            // Whatever another leader published meanwhile, nothing is remembered from an earlier time.
            let reconciler = self.reconciler(leadership.clone());
            works(true);
            tokio::select! {
                ended = leadership.guard(reconciler.run()) => break Err(ended),
                // What is published goes in one transaction: one that is not complete is not there.
                () = leadership.lost() => {
                    tracing::warn!("this controller does not lead any more; what it was doing is given up");
                }
                () = shutdown.requested() => break Ok(()),
            }
            works(false);
        };
        if let Some(standing) = standing {
            standing.withdraw().await;
        }
        ended
    }

    async fn stand(&self) -> Result<(Leadership, Option<Standing>), ElectionError> {
        let Setup { config, args, cluster_metrics: metrics, .. } = &self.setup;
        if !args.leader_elect {
            metrics.leader.set(1);
            return Ok((Leadership::granted(), None));
        }
        let (metrics, claim, identity) = (metrics.clone(), self.claim.clone(), self.identity.clone());
        let (namespace, name) = (args.pod_namespace.clone(), args.lease_name.clone());
        let duration = args.lease_duration;
        let candidate =
            move |client| Candidate::new(client, &namespace, &name, identity, duration, metrics, claim);
        let (leadership, standing) = lease::stand(config.clone(), candidate).await?;
        Ok((leadership, Some(standing)))
    }

    fn reconciler(&self, leadership: Leadership) -> Reconciler {
        let client = &self.client;
        let Setup {
            config: _,
            args,
            store,
            gate,
            limits,
            retention,
            defaults,
            confirmed,
            inventory,
            viola,
            environment,
            metrics,
            cluster_metrics,
        } = &self.setup;
        let controller = Controller::new(store.clone(), gate.clone(), *limits, *retention, metrics.clone())
            .reading(reads(self.triggers.mode))
            .delivering();
        let deliverer = Deliverer {
            client: client.clone(),
            defaults: placement::Defaults {
                sinks: args.sinks.clone(),
                namespace: args.node_namespace().to_owned(),
                viola: viola.clone(),
            },
            environment: *environment,
            inventory: inventory.clone(),
            metrics: cluster_metrics.clone(),
            error_interval: defaults.cadence.error,
            drift: Arc::default(),
            placements: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            absent: BTreeMap::new(),
            leadership: leadership.clone(),
            memory: deliver::Memory::default(),
        };
        Reconciler {
            client: client.clone(),
            controller,
            store: store.clone(),
            deliverer,
            defaults: defaults.clone(),
            confirmed: confirmed.clone(),
            triggers: self.triggers.clone(),
            view: self.view.clone(),
            definition: Definition::new(client.clone()),
            reporter: Reporter::new(client.clone(), &self.identity, cluster_metrics.clone()),
            metrics: cluster_metrics.clone(),
            pulse: Arc::clone(&self.pulse),
            entries: BTreeMap::new(),
            scheduled: None,
            orphans: 0,
            undelivered: None,
            unread: restore::Unread::default(),
            gone: Gone::default(),
            leadership,
            observe_at: std::time::Instant::now(),
        }
    }
}
