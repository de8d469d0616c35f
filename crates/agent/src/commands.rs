//! The commands, from their settings to an exit code.

use std::process::ExitCode;

use multinic_core::node::absence::Proof;
use multinic_core::node::observed::NicFile;
use multinic_core::node::plan;
use multinic_host::{Access, Host, Options, Recovery};
use multinic_store::AgentSource;
use multinic_telemetry::pages::{PageServer, Pages};
use multinic_telemetry::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use crate::config::{Command, NodeNameOrigin, PlanOutput, Request, Settings};
use crate::cycle::{Agent, Cycle};
use crate::lifeline::NodeAddresses;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::service::Service;
use crate::status::StatusBoard;
use crate::watch::Watch;
use crate::wishes::Wishes;
use crate::{forecast, os_type};

/// `once`, `cleanup`: some NICs are not as they should be.
const SOME_FAILED: u8 = 2;

/// Does what was asked for.
pub async fn dispatch(request: Request) -> anyhow::Result<ExitCode> {
    let Request { command, settings } = request;
    match command {
        Command::Run => run(settings).await,
        Command::Once => once(settings).await,
        Command::Plan { output } => plan_only(settings, output).await,
        Command::Cleanup { yes } => cleanup(settings, yes).await,
    }
}

/// What every command works with.
struct Parts {
    node: Node,
    metrics: Metrics,
    registry: Registry,
    board: StatusBoard,
}

impl Parts {
    async fn new(settings: &Settings, access: Access) -> anyhow::Result<Self> {
        let board = StatusBoard::new();
        let name = settings.node.to_string();
        let (metrics, registry) = Metrics::new(&name, &os_type::of_node(&settings.host_root));
        let mut options = Options::new(&settings.host_root);
        options.access = access;
        options.backups = settings.backup_keep;
        let mut host = Host::open(options)?;
        if access == Access::Write {
            recover(&mut host, &name).await?;
        }
        let dry_run = settings.dry_run || access == Access::Read;
        let node = Node::new(host, name, settings.max_interfaces, dry_run, metrics.clone(), board.clone());
        Ok(Self { node, metrics, registry, board })
    }

    fn agent(self, settings: &Settings, source: AgentSource, dry_run: bool) -> Agent {
        let lifeline = NodeAddresses::new(&settings.node_addresses);
        Agent::new(self.node, source, lifeline, settings.absence, dry_run, self.metrics, self.board)
    }
}

async fn recover(host: &mut Host, node_name: &str) -> anyhow::Result<()> {
    for recovered in host.recover().await? {
        let mac_address = recovered.mac;
        match recovered.outcome {
            Recovery::Made => {
                tracing::info!(node_name, %mac_address, "an interrupted change had been made; its journal entry is removed");
            }
            Recovery::RolledBack => {
                tracing::warn!(node_name, %mac_address, "an interrupted change was rolled back");
            }
            Recovery::Failed(failures) => tracing::error!(
                node_name,
                %mac_address,
                error = failures.join("; "),
                "an interrupted change could not be rolled back; the interface is left alone until it can"
            ),
        }
    }
    Ok(())
}

fn announce(settings: &Settings) {
    let node_name = settings.node.as_str();
    let name_from = match settings.node_origin {
        NodeNameOrigin::Configured => "configuration",
        NodeNameOrigin::HostName => "host name",
    };
    tracing::info!(
        node_name,
        name_from,
        version = env!("CARGO_PKG_VERSION"),
        os_type = os_type::of_node(&settings.host_root),
        dry_run = settings.dry_run,
        "starting"
    );
    if !settings.ignored.is_empty() {
        let names = settings.ignored.join(", ");
        tracing::warn!(node_name, settings = names, "these settings of older agents have no effect");
    }
}

fn source(settings: &Settings) -> anyhow::Result<AgentSource> {
    Ok(AgentSource::new(&settings.database()?, settings.node.clone()))
}

/// Until SIGTERM.
async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    announce(&settings);
    let source = source(&settings)?;
    let shutdown = Shutdown::on_signals()?;
    let (ip, port) = settings.health;
    let server = PageServer::bind(ip, port).await?;
    let access = if settings.dry_run { Access::Read } else { Access::Write };
    let mut parts = Parts::new(&settings, access).await?;
    let board = parts.board.clone();
    let pages = {
        let (live, ready, health) = (board.clone(), board.clone(), board.clone());
        Pages {
            registry: std::mem::take(&mut parts.registry),
            live: Box::new(move || live.live()),
            ready: Box::new(move || ready.ready()),
            health: Box::new(move || health.document()),
        }
    };
    let served = tokio::spawn(server.serve(pages, shutdown.clone()));
    let watch = Watch::new(parts.node.host.events()?);
    let metrics = parts.metrics.clone();
    let agent = parts.agent(&settings, source, settings.dry_run);
    Service::new(agent, watch, settings.poll, settings.full_pass, metrics, board).run(shutdown).await;
    // The pages end with the same request; waiting for a slow client is not worth a delayed exit.
    served.abort();
    tracing::info!(node_name = %settings.node, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// One read, one pass, one report.
async fn once(settings: Settings) -> anyhow::Result<ExitCode> {
    announce(&settings);
    let source = source(&settings)?;
    let shutdown = Shutdown::on_signals()?;
    let access = if settings.dry_run { Access::Read } else { Access::Write };
    let parts = Parts::new(&settings, access).await?;
    let mut agent = parts.agent(&settings, source, settings.dry_run);
    match agent.cycle(&shutdown).await? {
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
    let source = source(&settings)?;
    let parts = Parts::new(&settings, Access::Read).await?;
    let mut agent = parts.agent(&settings, source, true);
    let Some(wishes) = agent.forecast().await? else {
        anyhow::bail!("the source is older than what was read before; nothing would be done");
    };
    let host = &agent.node.host;
    let observed = host.observe().await?;
    let planned = plan(&wishes.nics, &wishes.releases(), host.owned(), &observed, settings.max_interfaces);
    let node = settings.node.as_str();
    match output {
        PlanOutput::Text => print!("{}", forecast::text(node, &wishes, &planned)),
        PlanOutput::Json => println!("{:#}", forecast::json(node, &wishes, &planned)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes everything of ours away, or says what that would be.
async fn cleanup(settings: Settings, yes: bool) -> anyhow::Result<ExitCode> {
    let access = if yes && !settings.dry_run { Access::Write } else { Access::Read };
    let mut node = Parts::new(&settings, access).await?.node;
    let lifeline = NodeAddresses::new(&settings.node_addresses).addresses();
    node.host.set_anchors(multinic_host::Anchors {
        node_addresses: lifeline,
        ..multinic_host::Anchors::default()
    });
    let observed = node.host.observe().await?;
    let releases = node.ours(&observed).into_iter().map(|mac| (mac, Proof::Tombstone)).collect();
    let wishes = Wishes { node_known: true, releases, ..Wishes::default() };
    let unreadable: Vec<String> = observed
        .files
        .iter()
        .filter(|file| file.mac().is_none())
        .map(|file: &NicFile| file.slot.interface().to_string())
        .collect();
    let (planned, done) = if access == Access::Read {
        let planned = plan(&[], &wishes.releases(), node.host.owned(), &observed, settings.max_interfaces);
        print!("{}", forecast::text(settings.node.as_str(), &wishes, &planned));
        if !planned.changes.is_empty() {
            println!("run `multinic-agent cleanup --yes` to do it");
        }
        (planned, true)
    } else {
        let (_, shutdown) = Shutdown::by_hand();
        let passed = node.pass(&wishes, &shutdown).await?;
        println!("{} taken away", passed.made);
        for (mac, error) in &passed.unmade {
            println!("{mac} could not be taken away: {error}");
        }
        let done = passed.plan.changes.is_empty() && passed.plan.refused.is_empty();
        (passed.plan, done)
    };
    for refusal in planned.refused.iter().filter(|_| access == Access::Write) {
        println!("{} is left alone: {}", refusal.mac, refusal.reason);
    }
    for name in &unreadable {
        println!("the file of {name} names no MAC: if nobody needs it, remove it by hand");
    }
    Ok(if done && (unreadable.is_empty() || access == Access::Read) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_FAILED)
    })
}
