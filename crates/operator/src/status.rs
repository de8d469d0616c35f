//! The status of a `MultiNicOperator`: by the conventions of kstatus, written only when it says something else.

use jiff::Timestamp;
use multinic_api::condition::{MOST_TEXT, whole_second};
use multinic_api::operator::{ComponentStatus, LastBackup, ProtectionStatus};
use multinic_api::{Conditions, MultiNicOperatorStatus};

use crate::backup::fresh::Freshness;
use crate::backup::restoration::Restoration;
use crate::component::{Component, Phase};
use crate::protection::tally::Untold;
use crate::record::Record;
use crate::rotation::Rotation;
use multinic_core::brief::cut;

/// What is known after a pass.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The generation that was carried out.
    pub generation: Option<i64>,
    /// Why it was not carried out as a whole: a reason and a message, and whether a person has to change something.
    pub problem: Option<Problem>,
    /// The controller, if it was looked at.
    pub controller: Option<Component>,
    /// The database, if the operator runs one.
    pub database: Option<Component>,
    /// The agents, if the operator runs them.
    pub agent: Option<Component>,
    /// Objects that somebody else changed or deleted, and that are left so.
    pub differing: Vec<String>,
    /// Objects that are left as they are because somebody broke the glass.
    pub held: Vec<String>,
    /// Whether others are kept from changing things, if that was looked at.
    pub protection: Option<Protection>,
    /// What was refused since that was told last.
    pub untold: Untold,
    /// Backups, if the spec wants any.
    pub backup: Option<Backup>,
    /// What came of a restoration, if the spec wants one.
    pub restored: Option<Restoration>,
    /// While the database's accounts change: what that waits for.
    pub rotation: Option<Rotation>,
    /// The certificate that the database shows.
    pub certificate: Certificate,
    /// What was carried out, where others are left as they are.
    pub record: Record,
}

/// The certificate that the database shows to those who connect.
#[derive(Debug, Clone, Default)]
pub enum Certificate {
    /// There is to be none.
    #[default]
    None,
    /// Nobody looked just now: what was told stays.
    Unseen,
    /// It is so.
    Seen(Freshness),
}

/// Whether others are kept from changing things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Whether they are.
    pub is_active: bool,
    /// The condition's reason.
    pub reason: &'static str,
    /// The condition's message.
    pub message: String,
}

/// The condition that is there only while the database's accounts change.
pub const ROTATING: &str = "CredentialsRotating";

/// The condition that is there where the database shows a certificate.
const CERTIFICATE: &str = "DatabaseCertificateFresh";

/// How backups are.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The newest one.
    pub last: Option<LastBackup>,
    /// Whether it is new enough.
    pub freshness: Freshness,
}

/// Why a spec was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word.
    pub reason: &'static str,
    /// What is wrong with what.
    pub message: String,
    /// Whether trying again does not help.
    pub is_stalled: bool,
}

/// The status after a pass. What did not change keeps its times; where nothing did, it is the same.
pub fn after_pass(
    before: &MultiNicOperatorStatus,
    findings: &Findings,
    now: Timestamp,
) -> MultiNicOperatorStatus {
    let Findings {
        generation,
        problem,
        controller,
        database,
        agent,
        differing,
        held,
        protection,
        untold,
        backup,
        restored,
        rotation,
        certificate,
        record,
    } = findings;
    let now = whole_second(now);
    let mut status = before.clone();
    status.observed_generation = generation.or(status.observed_generation);
    // What the first generation of operators wrote.
    status
        .conditions
        .retain(|condition| !matches!(condition.type_.as_str(), "databaseReady" | "controllerReady"));
    let list = std::mem::take(&mut status.conditions);
    let mut conditions = Conditions { list, generation: *generation, now };
    tell(&mut conditions, "ControllerReady", controller.as_ref());
    status.controller_status = component_status(before.controller_status.as_ref(), controller.as_ref(), now);
    tell(&mut conditions, "DatabaseReady", database.as_ref());
    status.database_status = component_status(before.database_status.as_ref(), database.as_ref(), now);
    tell(&mut conditions, "AgentReady", agent.as_ref());
    status.agent_status = component_status(before.agent_status.as_ref(), agent.as_ref(), now);
    let differing = (!differing.is_empty())
        .then(|| ("AutoRecoveryOff", format!("not as wanted, and left so: {}", differing.join(", "))));
    let held = (!held.is_empty())
        .then(|| ("GlassBroken", format!("left as they are, by their annotation: {}", held.join(", "))));
    match (differing, held) {
        (None, None) => conditions.remove("Drifted"),
        (Some((reason, message)), None) | (None, Some((reason, message))) => {
            conditions.set("Drifted", true, reason, &message);
        }
        (Some((reason, one)), Some((_, another))) => {
            conditions.set("Drifted", true, reason, &format!("{one}; {another}"));
        }
    }
    match backup {
        None => {
            conditions.remove("BackupFresh");
            status.last_backup = None;
        }
        Some(Backup { last, freshness: Freshness { is_fresh, reason, message } }) => {
            conditions.set("BackupFresh", *is_fresh, reason, message);
            status.last_backup.clone_from(last);
        }
    }
    match certificate {
        Certificate::None => conditions.remove(CERTIFICATE),
        Certificate::Unseen => {}
        Certificate::Seen(Freshness { is_fresh, reason, message }) => {
            // To the hour: saying it is a write, too.
            let hour = now.strftime("%Y-%m-%dT%H:00Z");
            conditions.set(CERTIFICATE, *is_fresh, reason, &format!("{message}; looked at after {hour}"));
        }
    }
    match rotation {
        None => conditions.remove(ROTATING),
        Some(Rotation { step, waits_for }) => conditions.set(ROTATING, true, step, waits_for),
    }
    match restored {
        // Whoever asks for it anew means it.
        None => {
            conditions.remove("Restored");
            status.restored_from = None;
            status.restore_asked = None;
        }
        Some(Restoration { is_done, reason, message, asked }) => {
            conditions.set("Restored", *is_done, reason, message);
            status.restored_from = is_done.then(|| asked.from.clone());
            status.restore_asked = Some(asked.clone());
        }
    }
    if let Some(Protection { is_active, reason, message }) = protection {
        conditions.set("ProtectionActive", *is_active, reason, message);
    }
    status.protection_status =
        protection_status(before.protection_status.as_ref(), protection.as_ref(), untold);
    let components: Vec<(&str, &Component)> =
        [("controller", controller), ("database", database), ("agents", agent)]
            .into_iter()
            .filter_map(|(name, component)| Some((name, component.as_ref()?)))
            .collect();
    let worst = components.iter().max_by_key(|(_, component)| component.phase);
    let phase = match (problem, worst) {
        (Some(_), _) => Phase::Error,
        (None, Some((_, worst))) => worst.phase,
        (None, None) => Phase::Pending,
    };
    let waiting: Vec<String> = components
        .iter()
        .filter(|(_, component)| component.phase != Phase::Running)
        .map(|(name, component)| format!("{name}: {}", component.message))
        .collect();
    let (reason, message) = match problem {
        Some(problem) => (problem.reason, problem.message.clone()),
        None if phase == Phase::Running => ("AllComponentsReady", "all components are ready".to_owned()),
        None => ("ComponentsNotReady", waiting.join("; ")),
    };
    conditions.set("Ready", phase == Phase::Running, reason, &message);
    // By kstatus: what only a person can mend is stalled; what is tried again is being worked on.
    let is_stalled = problem.as_ref().is_some_and(|problem| problem.is_stalled);
    match phase {
        Phase::Running => {
            conditions.remove("Reconciling");
            conditions.remove("Stalled");
        }
        _ if is_stalled => {
            conditions.remove("Reconciling");
            conditions.set("Stalled", true, reason, &message);
        }
        _ => {
            conditions.set("Reconciling", true, reason, &message);
            conditions.remove("Stalled");
        }
    }
    status.conditions = conditions.list;
    status.carried_out.clone_from(&record.0);
    status.phase = Some(phase.as_str().to_owned());
    status.message = Some(cut(message, MOST_TEXT));
    if status != *before {
        status.last_updated = Some(now.to_string());
    }
    status
}

/// Counts go on where they were: they are of the object, not of the process.
fn protection_status(
    before: Option<&ProtectionStatus>,
    protection: Option<&Protection>,
    untold: &Untold,
) -> Option<ProtectionStatus> {
    if before.is_none() && protection.is_none() {
        return None;
    }
    let before = before.cloned().unwrap_or_default();
    let last = untold.last.as_ref().map(|(at, _)| whole_second(*at).to_string());
    Some(ProtectionStatus {
        active: protection.map(|protection| protection.is_active).or(before.active),
        prevented_mutations: Some(before.prevented_mutations.unwrap_or(0).saturating_add(untold.prevented)),
        last_protection_event: last.or(before.last_protection_event),
    })
}

fn component_status(
    before: Option<&ComponentStatus>,
    component: Option<&Component>,
    now: Timestamp,
) -> Option<ComponentStatus> {
    let component = component?;
    let mut status = ComponentStatus {
        phase: Some(component.phase.as_str().to_owned()),
        ready_replicas: Some(component.ready),
        desired_replicas: Some(component.desired),
        last_updated: before.and_then(|before| before.last_updated.clone()),
    };
    if before != Some(&status) {
        status.last_updated = Some(now.to_string());
    }
    Some(status)
}

/// A component's; none where there is no such component.
fn tell(conditions: &mut Conditions, type_: &str, component: Option<&Component>) {
    match component {
        Some(is) => conditions.set(type_, is.phase == Phase::Running, is.reason, &is.message),
        None => conditions.remove(type_),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_backup_is_told_as_long_as_backups_are_wanted() {
        let now = Timestamp::UNIX_EPOCH;
        let freshness = Freshness { is_fresh: true, reason: "Fresh", message: String::new() };
        let backup = Backup { last: Some(LastBackup::default()), freshness };
        let with = Findings { backup: Some(backup), ..Findings::default() };
        let before = after_pass(&MultiNicOperatorStatus::default(), &with, now);
        assert!(before.last_backup.is_some() && !before.conditions.is_empty());
        let after = after_pass(&before, &Findings::default(), now);
        assert_eq!(after.last_backup, None);
        assert!(!after.conditions.iter().any(|it| it.type_ == "BackupFresh"));
    }

    #[test]
    fn a_certificate_that_nobody_looked_at_just_now_is_told_as_it_was_seen_last() {
        let now = Timestamp::UNIX_EPOCH;
        let told = |before: &MultiNicOperatorStatus, certificate| {
            after_pass(before, &Findings { certificate, ..Findings::default() }, now)
        };
        let reason = |status: &MultiNicOperatorStatus| {
            let found = status.conditions.iter().find(|it| it.type_ == CERTIFICATE)?;
            found.reason.clone()
        };
        let first = told(&MultiNicOperatorStatus::default(), Certificate::Unseen);
        assert_eq!(reason(&first), None);
        let freshness = Freshness { is_fresh: false, reason: "NotRenewed", message: String::new() };
        let seen = told(&first, Certificate::Seen(freshness.clone()));
        assert_eq!(reason(&seen).as_deref(), Some("NotRenewed"));
        let later = |minutes| {
            let findings =
                Findings { certificate: Certificate::Seen(freshness.clone()), ..Findings::default() };
            after_pass(&seen, &findings, now + SignedDuration::from_mins(minutes)) == seen
        };
        assert!(later(59) && !later(60), "it says when, once an hour");
        assert_eq!(reason(&told(&seen, Certificate::Unseen)).as_deref(), Some("NotRenewed"));
        assert_eq!(reason(&told(&seen, Certificate::None)), None);
    }
}
