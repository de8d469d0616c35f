//! A pass over 10 000 nodes with 10 ports each: cold, and with nothing changed.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use multinic_testbed::program::{Program, find};

use crate::figures::Figures;
use crate::fleet::{Fleet, NICS, NODES};

/// The goal for a controller that holds a whole fleet.
const MEMORY_LIMIT_MIB: f64 = 150.0;
/// A pass that takes longer than this is broken rather than slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one run of the controller took.
struct Run {
    took: Duration,
    peak_mib: f64,
    output: String,
}

pub fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let configs = folder.path().join("configs");
    fs::create_dir(&configs)?;
    let fleet = runtime.block_on(Fleet::start())?;
    let file = configs.join("fleet.yaml");
    // JSON is YAML.
    fs::write(&file, fleet.config().to_string())?;
    // A file that was just written is given time to be finished; that wait is not to be measured.
    File::options().append(true).open(&file)?.set_modified(SystemTime::now() - Duration::from_secs(60))?;
    let database = folder.path().join("multinic.db");

    let cold = run(folder.path(), &database)?;
    ensure!(
        cold.output.contains("1 configuration(s) as their spec wants it"),
        "the cold pass failed: {}",
        cold.output
    );
    let requests = fleet.cloud.total_requests();
    let before = contents(&database)?;
    let unchanged = run(folder.path(), &database)?;
    let writes_nothing = contents(&database)? == before;

    figures.note(format!(
        "controller, {NODES} nodes × {NICS} ports, SQLite, simulated cloud in another process"
    ));
    figures.value("cold pass, from start to exit", format!("{:.1} s", cold.took.as_secs_f64()));
    figures.value("  requests to the cloud", requests.to_string());
    figures.limit("  peak memory", cold.peak_mib, "MiB", MEMORY_LIMIT_MIB);
    figures.value("unchanged pass, from start to exit", format!("{:.1} s", unchanged.took.as_secs_f64()));
    figures.limit("  peak memory", unchanged.peak_mib, "MiB", MEMORY_LIMIT_MIB);
    figures.check("  the database file is byte for byte the same", writes_nothing);
    Ok(())
}

/// The database's file. The write-ahead log is folded into it when the last connection closes.
fn contents(database: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(database).with_context(|| format!("cannot read {}", database.display()))
}

fn run(folder: &Path, database: &Path) -> anyhow::Result<Run> {
    let mut command = Command::new(find("multinic")?);
    command
        .args(["controller", "--once", "--log-format", "text", "--standalone"])
        .arg(folder.join("configs"));
    command.env("DATABASE_URL", format!("sqlite://{}", database.display()));
    let started = Instant::now();
    let mut program = Program::start("controller", command, folder.join("controller.log"))?;
    let mut peak_mib = 0.0;
    while program.is_running() {
        if let Some(mib) = peak_memory(program.pid()) {
            peak_mib = mib;
        }
        ensure!(started.elapsed() < PATIENCE, "the controller is not done after {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Run { took: started.elapsed(), peak_mib, output: program.output() })
}

/// `VmHWM`: the most that was ever resident.
fn peak_memory(pid: u32) -> Option<f64> {
    crate::figures::memory(pid, "VmHWM:")
}
