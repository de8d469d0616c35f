//! `multinic backup`: backups of a MariaDB, verified, and their way back. It runs where MariaDB's programs are: in the
//! database's image, into which it copies itself, or on any machine that has them.

mod place;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use multinic_controller::settings::{DatabaseArgs, LogArgs};
use multinic_core::duration;
use multinic_operator::backup::archive::Retention;
use multinic_operator::backup::report::Report;
use multinic_operator::backup::{Restoring, Source, make, restore};
use multinic_store::{DatabaseSettings, Target, Tls};
use place::PlaceArgs;

/// What is done.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Dump a database, restore the dump into a scratch server, compare the rows of every table, and keep the dump if they are equal
    Make(Box<MakeArgs>),
    /// Show the backups, the newest first
    List(ListArgs),
    /// Fill an empty server from a backup, while no server runs on its data; one that is not empty stays as it is
    Restore(RestoreArgs),
    /// Copy this program to where it can be run beside MariaDB's programs
    Install(InstallArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = MAKE_HELP)]
struct MakeArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A folder for the scratch server, which has to have place for the database twice over, and three times where backups go to S3.
    #[arg(long)]
    work: PathBuf,
    /// Keep so many backups at most.
    #[arg(long)]
    keep_count: Option<usize>,
    /// Keep none that is older, such as 720h. The newest one stays in any case.
    #[arg(long, value_parser = duration::parse_positive)]
    keep_age: Option<Duration>,
    /// A file for what came of it, as one line of JSON.
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    logs: LogArgs,
}

const MAKE_HELP: &str = "\
mariadb-dump, mariadb-install-db, mariadbd, mariadb-admin and mariadb have to be in the PATH. The password comes from
DB_PASSWORD_FILE or DB_PASSWORD; the user needs SELECT only. The keys of S3 come from files, or from AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.";

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The name of a backup, or latest.
    #[arg(long, default_value = "latest")]
    from: String,
    /// Any text that tells this request from another for the same backup: a server that this one has filled already stays as it is,
    /// and counts as filled.
    #[arg(long)]
    request: Option<String>,
    /// The server's data, as mariadb-install-db made them.
    #[arg(long)]
    data: PathBuf,
    /// A folder for the server's socket and log, and for a backup that comes from S3.
    #[arg(long)]
    work: PathBuf,
    /// Name of the database.
    #[arg(long, default_value = "multinic")]
    database: String,
    /// A file for what came of it, as one line of JSON.
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    logs: LogArgs,
}

#[derive(Debug, clap::Args)]
struct InstallArgs {
    /// The file to make.
    path: PathBuf,
}

/// Does it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Make(args) => run_make(*args),
        Command::List(ListArgs { place }) => {
            for record in place.archive()?.records()? {
                let (rows, bytes) = (record.rows(), record.size);
                writeln!(io::stdout(), "{}  {rows} rows  {bytes} bytes  {}", record.file, record.time)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore(args) => run_restore(args),
        Command::Install(InstallArgs { path }) => {
            fs::copy("/proc/self/exe", &path).with_context(|| format!("cannot make {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_make(args: MakeArgs) -> anyhow::Result<ExitCode> {
    let MakeArgs { place, work, keep_count, keep_age, report, database, logs } = args;
    multinic_telemetry::logs::init(logs.log_format, logs.log_level).context("cannot set up the log")?;
    let settings = database.settings(|name| std::env::var(name).ok())?;
    let source = source(settings)?;
    let retention = Retention { count: keep_count, age: keep_age };
    let made = place.archive().and_then(|archive| make(&source, archive.as_ref(), &work, retention));
    if let Some(path) = report {
        Report::of_backup(&made).write(&path)?;
    }
    made?;
    Ok(ExitCode::SUCCESS)
}

fn source(settings: DatabaseSettings) -> anyhow::Result<Source> {
    let DatabaseSettings { target, tls, .. } = settings;
    let Target::MySql { host, port, user, password, name: database } = target else {
        anyhow::bail!("a SQLite file is backed up by sqlite3's .backup, not by this program");
    };
    let authority = match tls {
        Tls::Disabled => None,
        Tls::Verified { ca_file: Some(file) } => Some(file),
        Tls::Verified { ca_file: None } | Tls::Unverified => {
            anyhow::bail!(
                "DB_TLS_CA: name the authority that signed the server's certificate, or set DB_TLS=disabled"
            )
        }
    };
    Ok(Source { host, port, user, password, database, authority })
}

fn run_restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let RestoreArgs { place, from, request, data, work, database, report, logs } = args;
    multinic_telemetry::logs::init(logs.log_format, logs.log_level).context("cannot set up the log")?;
    let done = place.archive().and_then(|archive| {
        restore(&Restoring { archive: archive.as_ref(), from, request, database, data, work })
    });
    if let Some(path) = report {
        Report::of_restoration(&done).write(&path)?;
    }
    match done? {
        multinic_operator::backup::Restored::Filled { file, rows } => println!("{file}: {rows} rows"),
        multinic_operator::backup::Restored::NotEmpty { rows } => {
            println!("the server has {rows} rows and stays as it is");
        }
    }
    Ok(ExitCode::SUCCESS)
}
