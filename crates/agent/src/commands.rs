//! The commands, from their settings to an exit code.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use multinic_core::node::absence::Proof;
use multinic_core::node::observed::{NicFile, Observed};
use multinic_core::node::plan;
use multinic_host::backend::detect::{Detected, Distribution};
use multinic_host::guard::GuardSettings;
use multinic_host::survey::{install_drop_in, needs_drop_in};
use multinic_host::{Access, Anchors, Host, HostError, Options, Recovery};
use multinic_store::AgentSource;
use multinic_telemetry::pages::BindError;
use multinic_telemetry::shutdown::Shutdown;
use tokio::time::Instant;

use crate::config::{
    AgentAction, Command, DataSource, NodeNameOrigin, PlanOutput, Request, RunMode, Settings,
};
use crate::cycle::{Agent, Cycle, Doubt};
use crate::doctor::doctor;
use crate::lifeline::NodeAddresses;
use crate::metrics::Metrics;
use crate::node::{Node, Passed};
use crate::node_resource::NodeResource;
use crate::pages::PageServers;
use crate::service::Service;
use crate::source::{Place, Source};
use crate::status::StatusBoard;
use crate::watch::Watch;
use crate::wishes::Wishes;
use crate::{forecast, job};

/// `once`, `cleanup`: some NICs are not as they should be.
const SOME_FAILED: u8 = 2;
/// How long the work of another process on this node is waited for.
const UNDOING: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Does what was asked for.
pub async fn dispatch(request: Request) -> anyhow::Result<ExitCode> {
    let Request { command, settings } = request;
    match command {
        Command::Run if settings.run_mode == RunMode::Job => match settings.action {
            None => job::apply(settings).await,
            Some(AgentAction::Cleanup) => job::clean_up(settings).await,
        },
        Command::Run => run(settings).await,
        Command::Once => once(settings).await,
        Command::Plan { output } => plan_only(settings, output).await,
        Command::Doctor(args) => doctor(settings, args).await,
        Command::Undo => undo(&settings).await,
        Command::Cleanup { yes } => cleanup(settings, yes).await,
    }
}

/// What every command works with.
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) metrics: Metrics,
    pub(crate) board: StatusBoard,
}

impl Parts {
    /// Takes the ports of health and metrics.
    pub(crate) async fn pages(&mut self, settings: &Settings) -> Result<PageServers, BindError> {
        let own = NodeAddresses::new(&settings.node_addresses).of(&mut self.node.host);
        PageServers::bind(&settings.health_addresses, &own, settings.health_port).await
    }

    pub(crate) async fn new(settings: &Settings, access: Access) -> anyhow::Result<Self> {
        let name = settings.node.to_string();
        let mut options = Options::new(&settings.host_root);
        options.access = access;
        options.backups = settings.backup_keep;
        options.backend = settings.network_backend;
        options.safe_apply = settings.safe_apply;
        options.guard = Some(GuardSettings {
            program: settings.undo_program.clone(),
            arguments: vec!["undo".to_owned(), format!("--node-name={name}"), "--log-format=text".to_owned()],
            unarmed: settings.allow_unarmed,
        });
        let mut host = open(options).await?;
        let Detected { backend, why, os_type } = host.backend();
        tracing::info!(
            node_name = name,
            network_backend = backend.name(),
            reason = why,
            "this is how interfaces are made to last over a boot"
        );
        let (metrics, _) = Metrics::new(&name, os_type, *backend);
        let board = StatusBoard::new(host.backend().clone());
        if access == Access::Write {
            recover(&mut host, &name).await?;
            if settings.install_dropin && !settings.dry_run {
                // Where it cannot be written, the node is no worse off than without.
                if let Err(error) = offer_drop_in(settings, &name) {
                    tracing::error!(node_name = name, %error, "the drop-in for systemd-networkd is not written");
                }
            }
        }
        let dry_run = settings.dry_run || access == Access::Read;
        let node = Node::new(host, name, settings.max_interfaces, dry_run, metrics.clone(), board.clone());
        Ok(Self { node, metrics, board })
    }

    pub(crate) fn agent(self, settings: &Settings, source: Source, dry_run: bool) -> Agent {
        let lifeline = NodeAddresses::new(&settings.node_addresses);
        let Self { node, metrics, board } = self;
        let doubt = Doubt { rules: settings.absence, stale_confirm: settings.stale_confirm };
        Agent::new(node, source, lifeline, doubt, dry_run, metrics, board)
    }
}

/// Opens the node. One who undoes what an earlier agent left has it for some seconds at most.
async fn open(options: Options) -> Result<Host, HostError> {
    let deadline = Instant::now() + UNDOING;
    loop {
        match Host::open(options.clone()) {
            Err(HostError::Busy(_)) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            opened => return opened,
        }
    }
}

/// Writes the drop-in, if networkd runs here and does not have it.
fn offer_drop_in(settings: &Settings, node_name: &str) -> Result<(), HostError> {
    if needs_drop_in(&settings.host_root)? {
        let path = install_drop_in(&settings.host_root)?;
        tracing::warn!(
            node_name,
            path,
            "the drop-in is written; restart systemd-networkd in a maintenance window"
        );
    }
    Ok(())
}

/// Settles what earlier runs left, and says whether something of it could not be.
async fn recover(host: &mut Host, node_name: &str) -> anyhow::Result<bool> {
    let mut failed = false;
    for recovered in host.recover().await? {
        let mac_address = recovered.mac;
        match recovered.outcome {
            Recovery::Made => {
                tracing::info!(node_name, %mac_address, "an interrupted change had been made; its journal entry is removed");
            }
            Recovery::RolledBack => {
                tracing::warn!(node_name, %mac_address, "an interrupted change was rolled back");
            }
            Recovery::Failed(failures) => {
                failed = true;
                tracing::error!(
                    node_name,
                    %mac_address,
                    error = failures.join("; "),
                    "an interrupted change could not be rolled back; the interface is left alone until it can"
                );
            }
        }
    }
    Ok(failed)
}

pub(crate) fn announce(settings: &Settings) {
    let node_name = settings.node.as_str();
    let name_from = match settings.node_origin {
        NodeNameOrigin::Configured => "configuration",
        NodeNameOrigin::HostName => "host name",
    };
    tracing::info!(
        node_name,
        name_from,
        version = env!("CARGO_PKG_VERSION"),
        os_type = Distribution::of_node(&settings.host_root).os_type(),
        dry_run = settings.dry_run,
        "starting"
    );
    if !settings.ignored.is_empty() {
        let names = settings.ignored.join(", ");
        tracing::warn!(node_name, settings = names, "these settings of older agents have no effect");
    }
}

pub(crate) async fn source(settings: &Settings) -> anyhow::Result<Source> {
    open_source(settings, settings.dry_run).await
}

/// `silent`: nothing is reported to it.
pub(crate) async fn open_source(settings: &Settings, silent: bool) -> anyhow::Result<Source> {
    let place = match settings.data_source {
        DataSource::Db => {
            Place::Database(Box::new(AgentSource::new(&settings.database()?, settings.node.clone())))
        }
        DataSource::Nodecr => {
            let resource = NodeResource::start(&settings.resource, &settings.node, silent).await?;
            Place::Resource(Box::new(resource))
        }
    };
    Ok(Source::new(place, settings.options.clone()))
}

/// Until SIGTERM.
async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    announce(&settings);
    let source = source(&settings).await?;
    let shutdown = Shutdown::on_signals()?;
    let access = if settings.dry_run { Access::Read } else { Access::Write };
    let mut parts = Parts::new(&settings, access).await?;
    let pages = parts.pages(&settings).await?;
    pages.serve(&parts.metrics, &parts.board, &shutdown);
    // Whoever runs one pass by hand has it tried at once.
    parts.node.resume();
    let board = parts.board.clone();
    let host = &parts.node.host;
    let watch = Watch::new(host.events()?, host.file_events(), host.moved());
    let metrics = parts.metrics.clone();
    let agent = parts.agent(&settings, source, settings.dry_run);
    let service = Service::new(agent, watch, settings.poll, settings.full_pass, metrics, board);
    // The pages end with the same request; waiting for a slow client is not worth a delayed exit.
    let agent = service.run(shutdown).await;
    agent.into_source().finish().await;
    tracing::info!(node_name = %settings.node, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// One read, one pass, one report.
async fn once(settings: Settings) -> anyhow::Result<ExitCode> {
    announce(&settings);
    let source = source(&settings).await?;
    let shutdown = Shutdown::on_signals()?;
    let access = if settings.dry_run { Access::Read } else { Access::Write };
    let parts = Parts::new(&settings, access).await?;
    let mut agent = parts.agent(&settings, source, settings.dry_run);
    let cycle = agent.cycle(&shutdown).await;
    agent.into_source().finish().await;
    match cycle? {
        Cycle::Unread(error) => Err(error.into()),
        Cycle::Stale => anyhow::bail!("the source is older than what was read before; nothing was done"),
        Cycle::Stopped => anyhow::bail!("stopped before anything was done"),
        Cycle::Passed(passed, counts) => {
            let undone =
                counts.failed > 0 || !passed.plan.changes.is_empty() || !passed.plan.refused.is_empty();
            Ok(if undone { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
        }
    }
}

/// What would be done, on standard output.
async fn plan_only(settings: Settings, output: PlanOutput) -> anyhow::Result<ExitCode> {
    let source = open_source(&settings, true).await?;
    let parts = Parts::new(&settings, Access::Read).await?;
    let mut agent = parts.agent(&settings, source, true);
    let Some(wishes) = agent.forecast().await? else {
        anyhow::bail!("the source is older than what was read before; nothing would be done");
    };
    let observed = agent.node.host.observe().await?;
    let planned = agent.node.plan(&wishes, &observed).await?;
    let node = settings.node.as_str();
    match output {
        PlanOutput::Text => print!("{}", forecast::text(node, &wishes, &planned)),
        PlanOutput::Json => println!("{:#}", forecast::json(node, &wishes, &planned)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Undoes what an agent left that died. One that lives is waited for: it settles everything itself.
async fn undo(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut options = Options::new(&settings.host_root);
    options.access = Access::WriteInTurn;
    options.backups = settings.backup_keep;
    options.backend = settings.network_backend;
    let mut host = Host::open(options)?;
    let failed = recover(&mut host, settings.node.as_str()).await?;
    Ok(if failed { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
}

/// Takes everything of ours away, or says what that would be.
async fn cleanup(settings: Settings, yes: bool) -> anyhow::Result<ExitCode> {
    if yes && !settings.dry_run {
        let parts = Parts::new(&settings, Access::Write).await?;
        let (_, shutdown) = Shutdown::by_hand();
        let done = take_away(&settings, parts, &shutdown).await?;
        println!("{} taken away", done.taken_away);
        for text in &done.left {
            println!("{text}");
        }
        return Ok(if done.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME_FAILED) });
    }
    let mut node = Parts::new(&settings, Access::Read).await?.node;
    let (wishes, observed) = everything_of_ours(&settings, &mut node).await?;
    let planned = plan(&[], &wishes.releases(), node.host.owned(), &observed, settings.max_interfaces);
    print!("{}", forecast::text(settings.node.as_str(), &wishes, &planned));
    if !planned.changes.is_empty() {
        println!("run `multinic-agent cleanup --yes` to do it");
    }
    for text in unreadable(&observed) {
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What a clean-up did.
pub(crate) struct TakenAway {
    /// How many NICs were taken away.
    pub(crate) taken_away: usize,
    /// What is left, with the reason.
    pub(crate) left: Vec<String>,
}

/// Takes everything of ours away. Where the source is the node's object, that and the Node are told.
pub(crate) async fn take_away(
    settings: &Settings,
    parts: Parts,
    shutdown: &Shutdown,
) -> anyhow::Result<TakenAway> {
    let mut node = parts.node;
    let (wishes, _) = everything_of_ours(settings, &mut node).await?;
    let passed = node.pass(&wishes, shutdown).await?;
    let Passed { observed, plan, unmade, made, let_go, .. } = &passed;
    for link in observed.links.iter().filter(|link| let_go.contains(&link.index)) {
        if let Err(error) = node.host.leave_to_manager(link).await {
            tracing::warn!(link = link.name, error = %error, "the network manager does not have the NIC again");
        }
    }
    let mut left: Vec<String> =
        unmade.iter().map(|(mac, error)| format!("{mac} could not be taken away: {error}")).collect();
    left.extend(
        plan.refused.iter().map(|refusal| format!("{} is left alone: {}", refusal.mac, refusal.reason)),
    );
    let waiting = plan.changes.iter().filter(|change| !unmade.contains_key(&change.mac));
    left.extend(waiting.map(|change| format!("{} was not taken away yet", change.mac)));
    left.extend(unreadable(observed));
    if settings.data_source == DataSource::Nodecr && left.is_empty() && !settings.dry_run {
        match NodeResource::start(&settings.resource, &settings.node, false).await {
            Ok(mut resource) => {
                resource.cleaned_up().await;
                resource.finish().await;
            }
            Err(error) => tracing::warn!(error = %error, "the clean-up cannot be told to Kubernetes"),
        }
    }
    Ok(TakenAway { taken_away: *made, left })
}

/// All of it, with the node bound by what must not be cut.
async fn everything_of_ours(settings: &Settings, node: &mut Node) -> anyhow::Result<(Wishes, Observed)> {
    let node_addresses = NodeAddresses::new(&settings.node_addresses).of(&mut node.host);
    let source_addresses = way_to_source(settings, node).await.unwrap_or_else(|error| {
        tracing::warn!(error = %error, "the way to the source is not known, and so may be cut");
        BTreeSet::new()
    });
    node.host.set_anchors(Anchors { node_addresses, source_addresses });
    let observed = node.host.observe().await?;
    let releases = node.ours(&observed).into_iter().map(|mac| (mac, Proof::Tombstone)).collect();
    Ok((Wishes { node_known: true, releases, ..Wishes::default() }, observed))
}

/// A clean-up needs no source. Where there is one, the way to it stays.
async fn way_to_source(settings: &Settings, node: &mut Node) -> anyhow::Result<BTreeSet<IpAddr>> {
    let source = open_source(settings, true).await?;
    if let Some(reach) = source.reach() {
        node.host.set_reach(reach);
    }
    Ok(source.addresses().await?.into_iter().collect())
}

fn unreadable(observed: &Observed) -> impl Iterator<Item = String> {
    let files = observed.files.iter().filter(|file| file.mac().is_none());
    files.map(|file: &NicFile| {
        let name = file.slot.interface();
        format!("the file of {name} names no MAC: if nobody needs it, remove it by hand")
    })
}
