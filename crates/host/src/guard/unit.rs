//! A timer of the node's systemd that starts our program there. Both units are transient: they are in no file, and gone with
//! a boot, after which the kernel that was changed is gone too.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use zbus::{OwnedObjectPath, Variant};

use super::GuardError;
use crate::files::HostRoot;
use crate::manager::bus::{Bus, BusError, Object, SOCKET};

const TIMER: &str = "multinic-undo.timer";
const SERVICE: &str = "multinic-undo.service";
/// The one that shows whether the program runs at all.
const TRIAL: &str = "multinic-undo-trial.service";

/// Its name on the bus.
pub const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Object<'static> = Object {
    service: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// How long systemd may take to do what it takes milliseconds for.
const LONGEST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

type Properties = Vec<(&'static str, Variant<'static>)>;

/// The timer, armed.
#[derive(Debug)]
pub struct Unit {
    bus: Bus,
}

/// Connects to the node's systemd.
///
/// # Errors
/// Where it cannot be reached.
pub async fn connect(root: &HostRoot) -> Result<Bus, GuardError> {
    Bus::connect(root).await?.ok_or_else(|| GuardError::NoBus(root.path().join(SOCKET)))
}

/// Has systemd start the program with these arguments after a time, unless it is disarmed before.
///
/// # Errors
/// Where systemd does not show the timer as waiting.
pub async fn arm(
    root: &HostRoot,
    program: &Path,
    arguments: &[String],
    after: Duration,
) -> Result<Unit, GuardError> {
    let bus = connect(root).await?;
    let microseconds = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    let service = || {
        let mut properties: Properties =
            vec![("Description", "Undo the change of a MultiNIC agent that died".into())];
        properties.push(command(program, arguments));
        properties
    };
    // systemd before 242 knows the older name alone, which later ones take too, with a word of complaint.
    let newer = ("TimersMonotonic", Variant::from(vec![("OnActiveSec".to_owned(), microseconds)]));
    let older = ("OnActiveSec", Variant::from(microseconds));
    let mut refused = None;
    for delay in [newer, older] {
        let timer: Properties = vec![
            ("Description", "Wait for the end of a change of the MultiNIC agent".into()),
            delay,
            // A minute, unless something else is said.
            ("AccuracyUSec", 100_000_u64.into()),
        ];
        match start(&bus, TIMER, timer, vec![(SERVICE, service())]).await {
            Ok(()) => {
                await_state(&bus, TIMER, "active").await?;
                return Ok(Unit { bus });
            }
            Err(error) => refused.get_or_insert(error),
        };
    }
    Err(refused.map_or_else(
        || GuardError::NotStarted { unit: TIMER, found: "nothing was tried".to_owned() },
        GuardError::from,
    ))
}

/// Has systemd run the program once, to see that it can.
///
/// # Errors
/// Where it cannot.
pub async fn try_out(bus: &Bus, program: &Path) -> Result<(), GuardError> {
    let properties: Properties = vec![
        ("Description", "See whether the MultiNIC agent's program runs on this node".into()),
        ("Type", "oneshot".into()),
        ("RemainAfterExit", true.into()),
        command(program, &["--version".to_owned()]),
    ];
    start(bus, TRIAL, properties, Vec::new()).await?;
    let state = await_state(bus, TRIAL, "active").await;
    clear(bus, TRIAL).await?;
    state.map_err(|error| match error {
        GuardError::NotStarted { found, .. } => GuardError::DoesNotRun { path: program.to_owned(), found },
        other => other,
    })
}

/// Why systemd does not let us start a unit. It is asked to in a way that it does not know: nothing is started.
pub async fn denied(bus: &Bus) -> Option<String> {
    let nothing: (&str, &str, Properties, Vec<(&str, Properties)>) =
        (TIMER, "as-if", Properties::new(), Vec::new());
    let answer = bus.call::<_, OwnedObjectPath>(MANAGER, "StartTransientUnit", &nothing).await;
    answer.err().filter(BusError::is_denied).map(|error| error.to_string())
}

/// Stops a timer that an earlier run left behind.
///
/// # Errors
/// Where the bus, if there is one, does not answer.
pub async fn disarm_any(root: &HostRoot) -> Result<(), GuardError> {
    match Bus::connect(root).await? {
        Some(bus) if bus.has_owner(SYSTEMD).await? => Ok(clear_all(&bus).await?),
        _ => Ok(()),
    }
}

impl Unit {
    /// Stops the timer, and what it may have started meanwhile, which waits for our lock.
    ///
    /// # Errors
    /// Where systemd does not do it.
    pub async fn disarm(self) -> Result<(), GuardError> {
        Ok(clear_all(&self.bus).await?)
    }
}

fn command(program: &Path, arguments: &[String]) -> (&'static str, Variant<'static>) {
    let path = program.to_string_lossy().into_owned();
    let words: Vec<String> = std::iter::once(path.clone()).chain(arguments.iter().cloned()).collect();
    ("ExecStart", Variant::from(vec![(path, words, false)]))
}

/// Starts a transient unit in the place of one of the same name.
async fn start(
    bus: &Bus,
    unit: &'static str,
    properties: Properties,
    beside: Vec<(&'static str, Properties)>,
) -> Result<(), BusError> {
    let deadline = Instant::now() + LONGEST;
    let body = (unit, "replace", properties, beside);
    loop {
        match bus.call::<_, OwnedObjectPath>(MANAGER, "StartTransientUnit", &body).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is(UNIT_EXISTS) && Instant::now() < deadline => {
                clear(bus, unit).await?;
                for (unit, _) in &body.3 {
                    clear(bus, unit).await?;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn clear_all(bus: &Bus) -> Result<(), BusError> {
    clear(bus, TIMER).await?;
    clear(bus, SERVICE).await
}

/// Stops a unit, if there is one, and has it forgotten if it failed.
async fn clear(bus: &Bus, unit: &str) -> Result<(), BusError> {
    for (method, done) in [("StopUnit", stop(bus, unit).await), ("ResetFailedUnit", reset(bus, unit).await)] {
        match done {
            Err(error) if !error.is(NO_SUCH_UNIT) => {
                tracing::debug!(%error, unit, method, "systemd refuses");
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

async fn stop(bus: &Bus, unit: &str) -> Result<(), BusError> {
    let _: OwnedObjectPath = bus.call(MANAGER, "StopUnit", &(unit, "replace")).await?;
    Ok(())
}

async fn reset(bus: &Bus, unit: &str) -> Result<(), BusError> {
    bus.call(MANAGER, "ResetFailedUnit", &unit).await
}

/// Waits until a unit is in this state, or failed.
async fn await_state(bus: &Bus, unit: &'static str, wanted: &str) -> Result<(), GuardError> {
    let path: OwnedObjectPath = bus.call(MANAGER, "GetUnit", &unit).await?;
    let object = Object { service: SYSTEMD, path: path.as_str(), interface: "org.freedesktop.systemd1.Unit" };
    let deadline = Instant::now() + LONGEST;
    loop {
        let state: String = bus.get(object, "ActiveState").await?;
        if state == wanted {
            return Ok(());
        }
        if state == "failed" || Instant::now() > deadline {
            let sub: String = bus.get(object, "SubState").await?;
            return Err(GuardError::NotStarted { unit, found: result(bus, &path, state, sub).await });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What systemd says of a unit that is not as it should be.
async fn result(bus: &Bus, path: &OwnedObjectPath, state: String, sub: String) -> String {
    let interface = "org.freedesktop.systemd1.Service";
    let object = Object { service: SYSTEMD, path: path.as_str(), interface };
    match (bus.get::<String>(object, "Result").await, bus.get::<i32>(object, "ExecMainStatus").await) {
        (Ok(result), Ok(status)) => format!("{state}, {sub}, {result}, status {status}"),
        _ => format!("{state}, {sub}"),
    }
}
