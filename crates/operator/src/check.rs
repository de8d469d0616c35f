//! What is wrong with a `MultiNicOperator` that its definition cannot say.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::{AgentSpec, BackupSpec, DatabaseCredentials, DatabaseSpec, ReconcileTrigger};
use multinic_core::duration;

use crate::desired::{RESERVED, RESERVED_OF_AGENT, given, has_policies};

/// The controller's port of requests for reconciliations and the one of its inventory.
const TAKEN_PORTS: [i32; 2] = [8083, 18081];
/// The shortest interval of `scheduled`.
const LEAST_INTERVAL: Duration = Duration::from_secs(60);
/// Databases and users of the server itself, and the users of agents and backups.
const SYSTEM_NAMES: [&str; 10] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "root",
    "mariadb.sys",
    "multinic-agent",
    "multinic-agent-b",
    "multinic-backup",
    "multinic-backup-b",
];
/// The longest value of a label, which the name is.
const MOST_NAME: usize = 63;

/// A field that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// `spec.reconcileTrigger.interval`.
    pub field: String,
    /// What to do about it.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// Everything that is wrong; nothing is carried out then.
pub fn check(name: &str, spec: &MultiNicOperatorSpec) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut say = |field: &str, why: String| wrong.push(Wrong { field: field.to_owned(), why });
    if name.len() > MOST_NAME {
        say("metadata.name", format!("it becomes a label: at most {MOST_NAME} characters"));
    }
    if spec.controller.image.trim().is_empty() {
        say("spec.controller.image", "name the controller's image".to_owned());
    }
    let probe = spec.controller.health_probe.as_ref();
    if let Some(port) = probe.and_then(|probe| probe.port).filter(|port| TAKEN_PORTS.contains(port)) {
        say("spec.controller.healthProbe.port", format!("the controller serves something else on {port}"));
    }
    let path = probe.and_then(|probe| given(probe.path.as_ref()));
    if path.is_some_and(|path| !path.starts_with('/')) {
        say("spec.controller.healthProbe.path", "it must begin with /".to_owned());
    }
    for name in spec.controller.settings.iter().flat_map(|settings| settings.keys()) {
        if RESERVED.contains(&name.as_str()) {
            say(&format!("spec.controller.settings.{name}"), "it has a field of its own".to_owned());
        }
    }
    check_database(&spec.database, &mut say);
    if let Some(agent) = &spec.agent {
        check_agent(agent, &spec.database, &mut say);
    }
    if let Some(trigger) = &spec.reconcile_trigger {
        check_trigger(trigger, &mut say);
    }
    let has_openstack = spec.network_policy.as_ref().and_then(|policy| policy.openstack_cidrs.as_ref());
    if has_policies(spec) && has_openstack.is_none_or(Vec::is_empty) {
        let why = "name the addresses of OpenStack, such as 10.20.0.0/16: the controller reaches no others";
        say("spec.networkPolicy.openstackCIDRs", why.to_owned());
    }
    wrong
}

fn check_agent(spec: &AgentSpec, database: &DatabaseSpec, say: &mut impl FnMut(&str, String)) {
    let AgentSpec { image, resources: _, data_source, sysconfig: _, install_drop_in: _, settings } = spec;
    if image.trim().is_empty() {
        say("spec.agent.image", "name the agent's image".to_owned());
    }
    if given(data_source.as_ref()) == Some("db") && !database.enabled {
        let why = "agents read the database that the operator runs: set spec.database.enabled, or use nodecr";
        say("spec.agent.dataSource", why.to_owned());
    }
    for name in settings.iter().flat_map(|settings| settings.keys()) {
        if RESERVED_OF_AGENT.contains(&name.as_str()) {
            say(&format!("spec.agent.settings.{name}"), "the operator sets it".to_owned());
        }
    }
}

/// Names go into statements of SQL and passwords into a file with one statement a line.
fn check_database(spec: &DatabaseSpec, say: &mut impl FnMut(&str, String)) {
    let DatabaseSpec {
        enabled,
        image: _,
        storage_size: _,
        resources: _,
        credentials,
        service: _,
        tls: _,
        deletion_policy: _,
        backup,
        restore_from,
        external,
    } = spec;
    if *enabled && external.is_some() {
        say("spec.database.external", "it is for a server of your own: set enabled to false".to_owned());
    }
    if let Some(backup) = backup {
        check_backup(backup, *enabled, say);
    }
    if let Some(from) = given(restore_from.as_ref()) {
        if backup.is_none() {
            say("spec.database.restoreFrom", "say in spec.database.backup where backups are".to_owned());
        }
        if from.contains('/') {
            say("spec.database.restoreFrom", "it is the name of a file, or latest".to_owned());
        }
    }
    let Some(credentials) = credentials else { return };
    let DatabaseCredentials { root_password, database, user, password, rotation: _, end_rotation: _ } =
        credentials;
    let is_name = |name: &str| {
        name.len() <= MOST_NAME
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    for (field, name) in [("database", database), ("user", user)] {
        let Some(name) = given(name.as_ref()) else { continue };
        let field = format!("spec.database.credentials.{field}");
        if !is_name(name) {
            say(&field, format!("letters, digits, - and _, at most {MOST_NAME}"));
        } else if SYSTEM_NAMES.contains(&name.to_ascii_lowercase().as_str()) {
            say(&field, "it is the server's own, or that of agents or backups".to_owned());
        }
    }
    for (field, password) in [("rootPassword", root_password), ("password", password)] {
        if password.as_ref().is_some_and(|password| password.chars().any(char::is_control)) {
            say(&format!("spec.database.credentials.{field}"), "it holds a control character".to_owned());
        }
    }
}

fn check_backup(spec: &BackupSpec, enabled: bool, say: &mut impl FnMut(&str, String)) {
    let BackupSpec { schedule, timezone, retention, claim_name: _, storage_size: _, s3: _ } = spec;
    if !enabled {
        let why =
            "the operator backs up the database that it runs: back up a server of your own by its own means";
        say("spec.database.backup", why.to_owned());
    }
    // Kubernetes reads it too, and knows no seconds.
    if schedule.split_whitespace().count() != 5 {
        say("spec.database.backup.schedule", "it has five fields, such as 0 3 * * *".to_owned());
    }
    check_schedule("spec.database.backup", Some(schedule), timezone.as_ref(), say);
    let age = retention.as_ref().and_then(|retention| given(retention.max_age.as_ref()));
    if let Some(Err(why)) = age.map(duration::parse_positive) {
        say("spec.database.backup.retention.maxAge", why);
    }
}

/// As the controller would refuse it, which would then not start.
fn check_trigger(trigger: &ReconcileTrigger, say: &mut impl FnMut(&str, String)) {
    let ReconcileTrigger { mode: _, interval, schedule, timezone, immediate_on_cr_change: _ } = trigger;
    if let Some(interval) = given(interval.as_ref()) {
        match duration::parse_positive(interval) {
            Ok(interval) if interval < LEAST_INTERVAL => {
                say("spec.reconcileTrigger.interval", "it must be at least 1m".to_owned());
            }
            Ok(_) => {}
            Err(why) => say("spec.reconcileTrigger.interval", why),
        }
    }
    check_schedule("spec.reconcileTrigger", schedule.as_ref(), timezone.as_ref(), say);
}

fn check_schedule(
    place: &str,
    schedule: Option<&String>,
    timezone: Option<&String>,
    say: &mut impl FnMut(&str, String),
) {
    if let Some(schedule) = given(schedule) {
        match schedule.parse::<Cron>() {
            // Whether there is any time at all: one that comes once a year comes after every start.
            Ok(cron) if cron.find_next_occurrence(&epoch(), false).is_err() => {
                say(&format!("{place}.schedule"), format!("{schedule:?} never comes"));
            }
            Ok(_) => {}
            Err(why) => say(&format!("{place}.schedule"), why.to_string()),
        }
    }
    if let Some(timezone) = given(timezone)
        && let Err(why) = TimeZone::get(timezone)
    {
        say(&format!("{place}.timezone"), format!("no IANA time zone such as Asia/Seoul: {why}"));
    }
}

fn epoch() -> Zoned {
    Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC)
}
