//! `multinic controller`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use multinic_controller::cluster::metrics::ClusterMetrics;
use multinic_controller::cluster::settings::ClusterArgs;
use multinic_controller::cluster::{Cluster, Setup};
use multinic_controller::inventory::Inventory;
use multinic_controller::inventory::settings::InventoryArgs;
use multinic_controller::metrics::Metrics;
use multinic_controller::pass::Controller;
use multinic_controller::settings::{CloudArgs, DatabaseArgs, LogArgs, PassArgs};
use multinic_controller::sinks::viola::ViolaArgs;
use multinic_controller::standalone::Standalone;
use multinic_openstack::Gate;
use multinic_store::{DatabaseSettings, Store, StoreError};
use multinic_telemetry::pages::{PageServer, Pages};
use multinic_telemetry::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use crate::process::{block_on, config};
use crate::settings_file::FileArg;

/// How the controller is run.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    _file: FileArg,
    /// Follow the OpenstackConfig files (*.yaml, *.yml) of this directory, without Kubernetes. Without it, the objects of
    /// the cluster are followed that a ServiceAccount or a kubeconfig (KUBECONFIG) leads to.
    #[arg(long, value_name = "DIR", env = "STANDALONE_DIR")]
    standalone: Option<PathBuf>,
    /// Where to write each configuration's status, NAMESPACE.NAME.status.yaml. [default: beside its file]
    #[arg(long, value_name = "DIR", env = "STATUS_DIR", requires = "standalone")]
    status_dir: Option<PathBuf>,
    /// Make one pass and exit: 0 if every configuration is as its spec wants it, 2 if one is not.
    #[arg(long, requires = "standalone")]
    once: bool,
    /// Confirm removals that were held, by the digest that log and status show.
    #[arg(long, value_name = "DIGEST", value_delimiter = ',', env = "CONFIRM_REMOVALS")]
    confirm_removals: Vec<String>,
    /// Address on which health and metrics are served.
    #[arg(long, env = "HEALTH_ADDR", default_value = "0.0.0.0")]
    health_addr: IpAddr,
    /// Port of health and metrics; 0 takes a free one.
    #[arg(long, env = "HEALTH_PORT", default_value_t = 8082)]
    health_port: u16,
    #[command(flatten)]
    logs: LogArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    pass: PassArgs,
    #[command(flatten)]
    clouds: CloudArgs,
    #[command(flatten)]
    cluster: Box<ClusterArgs>,
    #[command(flatten)]
    viola: Box<ViolaArgs>,
    #[command(flatten)]
    inventory: Box<InventoryArgs>,
}

const NO_CLUSTER: &str = "no cluster to follow: there is neither a ServiceAccount nor a kubeconfig (KUBECONFIG); use \
     --standalone DIR without one";

const NO_PAGES: &str = "cannot start the thread that serves health and metrics";

/// Where the ledger is unless a database is named: a volume, if it is to outlive the pod.
const LEDGER: &str = "/var/lib/multinic/multinic.db";

/// How long after a failed attempt a database is tried again that was not there at the start.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
Every flag is also an environment variable, named in brackets, and a key of the --config file:
in lower case with underscores, such as poll_fast_interval. The command line goes before the
environment, and that before the file; what an OpenstackConfig says itself goes before all of
them.

Secrets are neither flags, since everybody on the machine can read the arguments of a process,
nor keys of the file:
  DATABASE_URL            mysql://user:password@host:port/name, mariadb://… or sqlite:///path;
                          goes before --db-host
  DB_PASSWORD             the database user's password; or --db-password-file
  CONTRABASS_ENCRYPT_KEY  AES key of the passwords that Contrabass hands out: 16, 24 or 32 bytes
  VIOLA_TOKEN             bearer token for Viola; or --viola-token-file

In a cluster the ledger is /var/lib/multinic/multinic.db unless DATABASE_URL or --db-host names
a database. Several replicas need one that they share. What is lost with it is read back from
the MultiNicNodeConfigs before the first pass.

What is removed, and when: an interface goes when its configuration no longer selects it, or
when Neutron answers 404 for its port (or shows it attached elsewhere). A read that fails, is
empty or is partial removes nothing. More than a tenth of all interfaces (and more than 10) at
once, or renamed nodes with as many, wait for --confirm-removals unless a spec lets go of them.
In a cluster, whoever deletes an OpenstackConfig lets go of all that it published; one that is
merely not listed does not, nor does the deletion of the CustomResourceDefinition. Annotations
of an OpenstackConfig: multinic.io/confirm-removals (digests), multinic.io/reconcile-at (any new
text), multinic.io/orphan (delete it and keep what it published).";

/// Runs until SIGTERM, or once.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        _file: _,
        standalone,
        status_dir,
        once,
        confirm_removals,
        health_addr,
        health_port,
        logs,
        database,
        pass,
        clouds,
        cluster,
        viola,
        inventory: inventory_args,
    } = args;
    multinic_telemetry::logs::init(logs.log_format, logs.log_level).context("cannot set up the log")?;
    let settings = match (&standalone, is_named(&database)) {
        (None, false) => {
            make_folder_of(LEDGER)?;
            DatabaseSettings::sqlite(PathBuf::from(LEDGER))
        }
        _ => database.settings(environment).context("the database's settings are incomplete")?,
    };
    let defaults = clouds.defaults(&pass, environment)?;
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let is_patient = standalone.is_none();
    let opened = open(&settings, is_patient, shutdown.clone()).await.context("cannot open the database")?;
    let Some(store) = opened else { return Ok(ExitCode::SUCCESS) };
    tracing::info!(database = %store.place(), "the database is ready");
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let database = multinic_controller::database::watch(&mut registry, store.clone());
    let gate = Gate::new(usize::from(clouds.openstack_max_requests));
    let Some(standalone) = standalone else {
        let inventory = Inventory::open(&inventory_args, Some(&store)).await?;
        if inventory_args.inventory_enabled {
            let listener = inventory.bind(&inventory_args).await?;
            let (served, shutdown) = (inventory.clone(), shutdown.clone());
            tokio::spawn(async move { served.serve(listener, shutdown).await });
        }
        let setup = Setup {
            config: config(NO_CLUSTER).await?,
            inventory: Some(inventory),
            viola: *viola,
            environment,
            args: *cluster,
            store,
            gate,
            limits: pass.limits(),
            retention: pass.tombstone_retention,
            defaults,
            confirmed: confirm_removals.into_iter().collect(),
            metrics,
            cluster_metrics: ClusterMetrics::register(&mut registry),
        };
        let server = PageServer::bind(health_addr, health_port).await?;
        let cluster = Cluster::start(setup).await?;
        let ready = Box::new(cluster.ready());
        let pages = Pages { ready, ..cluster.pulse().pages(registry) };
        server.serve_apart(pages, shutdown.clone()).context(NO_PAGES)?;
        tokio::spawn(database);
        cluster.run(shutdown).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let controller = Controller::new(store, gate, pass.limits(), pass.tombstone_retention, metrics);
    let confirmed: BTreeSet<String> = confirm_removals.into_iter().collect();
    let mut standalone = Standalone::new(controller, standalone, status_dir, defaults, confirmed);
    if once {
        let summary = standalone.once().await?;
        println!(
            "{} configuration(s) as their spec wants it, {} not, {} file(s) not readable, {} removal(s) held",
            summary.ready, summary.failing, summary.broken_files, summary.held
        );
        let good = summary.failing == 0 && summary.broken_files == 0 && summary.held == 0;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    let pulse = standalone.pulse();
    let server = PageServer::bind(health_addr, health_port).await?;
    // Planning for a large fleet keeps this thread.
    server.serve_apart(pulse.pages(registry), shutdown.clone()).context(NO_PAGES)?;
    tokio::spawn(database);
    standalone.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the database. In a cluster it may be on its way up, as after a node's reboot: whoever ended then would be started again
/// late, and later each time. None where the end is asked for meanwhile.
async fn open(
    settings: &DatabaseSettings,
    is_patient: bool,
    mut shutdown: Shutdown,
) -> Result<Option<Store>, StoreError> {
    let mut told = String::new();
    loop {
        let error = match Store::open(settings).await {
            Ok(store) => return Ok(Some(store)),
            Err(error) if is_patient && error.retry() => error.to_string(),
            Err(error) => return Err(error),
        };
        if error != told {
            tracing::warn!(error, "the database cannot be opened yet");
            told = error;
        }
        tokio::select! {
            () = tokio::time::sleep(DATABASE_PAUSE) => {}
            () = shutdown.requested() => return Ok(None),
        }
    }
}

/// Whether any setting names a database.
fn is_named(database: &DatabaseArgs) -> bool {
    database.db_host.is_some() || environment("DATABASE_URL").is_some()
}

fn make_folder_of(file: &str) -> anyhow::Result<()> {
    let folder = Path::new(file).parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot make {} for the ledger; set DATABASE_URL or DB_HOST to keep it elsewhere",
            folder.display()
        )
    })
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
