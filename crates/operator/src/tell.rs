//! What a turn tells of what it did: in a status, in events.

use jiff::Timestamp;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt as _};
use multinic_api::{MultiNicOperatorStatus, Readiness};
use serde_json::{Value, json};

use crate::apply::{Applied, Change};
use crate::component::Phase;
use crate::kinds::Key;
use crate::protection::Wanted;
use crate::protection::change::Operation;
use crate::protection::tally::Untold;
use crate::reconciler::{Operator, RECONCILE_ERROR, TurnError};
use crate::status::{Findings, Protection, ROTATING, after_pass};
use crate::webhook::{Prepared, is_part};

impl Operator {
    /// Says what was refused, and what was done by breaking the glass.
    async fn announce_protection(&self, object: &DynamicObject, untold: &Untold) {
        let Untold { prevented, last, broken, more } = untold;
        if let (1.., Some((_, last))) = (prevented, last) {
            let note = format!("{prevented} refused, the last of {last}");
            self.events.publish(object, true, "MutationPrevented", note).await;
        }
        for what in broken {
            self.events.publish(object, true, "GlassBroken", what.clone()).await;
        }
        if *more > 0 {
            self.events.publish(object, true, "GlassBroken", format!("{more} times more")).await;
        }
        self.webhook.tally().told(untold);
    }

    /// Says what was done, once for each kind of change.
    pub(crate) async fn announce(&self, object: &DynamicObject, changes: &[(Key, Change)]) {
        // What a spec that is carried out already does not ask for was changed by somebody else.
        let is_repair = is_carried_out(object);
        for (change, reason, repair) in [
            (Change::Made, "Made", "MadeAgain"),
            (Change::Changed, "Changed", "ChangedBack"),
            (Change::Removed, "Removed", "Removed"),
        ] {
            let names: Vec<String> =
                changes.iter().filter(|(_, done)| *done == change).map(|(key, _)| key.to_string()).collect();
            for _ in &names {
                self.metrics.changed(change);
            }
            if !names.is_empty() {
                let reason = if is_repair { repair } else { reason };
                let names = names.join(", ");
                tracing::info!(reason, objects = names, "objects were written");
                self.events.publish(object, false, reason, names).await;
            }
        }
    }

    /// Writes the status, if it says something else.
    pub(crate) async fn tell(
        &self,
        api: &Api<DynamicObject>,
        object: &DynamicObject,
        findings: &Findings,
    ) -> Result<Phase, TurnError> {
        let before = status_of(object);
        let status = after_pass(&before, findings, Timestamp::now());
        let phase = match status.phase.as_deref() {
            Some("Running") => Phase::Running,
            Some("Pending") => Phase::Pending,
            _ => Phase::Error,
        };
        if status == before {
            self.announce_protection(object, &findings.untold).await;
            return Ok(phase);
        }
        let name = object.name_any();
        let (was, is) = (Readiness::of(&before.conditions), Readiness::of(&status.conditions));
        let mut object = object.clone();
        // Only maps with keys that are not texts fail to serialise, and there is none.
        object.data = json!({ "spec": object.data.get("spec"), "status": serde_json::to_value(status).unwrap_or_default() });
        match api.replace_status(&name, &PostParams::default(), &object).await {
            // Somebody was faster, or it is gone: that is news of its own.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => return Ok(phase),
            Err(source) => return Err(TurnError::Write { what: "the status", name, source }),
            Ok(_) => {}
        }
        self.announce_protection(&object, &findings.untold).await;
        if let Some(is) = is
            && was.as_ref().map(|was| (&was.reason, was.ready)) != Some((&is.reason, is.ready))
        {
            self.events.publish(&object, phase == Phase::Error, &is.reason, is.message).await;
        }
        Ok(phase)
    }
}

/// How others are kept from changing things.
pub(crate) struct Way<'a> {
    pub wanted: &'a Wanted,
    pub prepared: &'a Result<Option<Prepared>, String>,
}

/// Whether they are.
pub(crate) fn protection_of(way: &Way<'_>, applied: &Applied) -> Protection {
    let Way { wanted, prepared } = way;
    let not = |reason, message: &str| Protection { is_active: false, reason, message: message.to_owned() };
    if wanted.rules.is_none() {
        return not(
            "Disabled",
            "spec.protection.enableMutationPrevention is not true: others may change everything",
        );
    }
    match prepared {
        Err(why) => return not("NotServed", why),
        Ok(None) => return not("NotServed", "no API server can ask this operator"),
        Ok(Some(_)) => {}
    }
    if let Some((key, why)) = applied.failures.iter().find(|(key, _)| is_part(key)) {
        return not(RECONCILE_ERROR, &format!("{key}: {why}"));
    }
    let unknown = match wanted.unknown.as_slice() {
        [] => String::new(),
        words => {
            let known = Operation::ALL.map(Operation::as_str).join(", ");
            format!("; allowedOperations knows {known}, and not: {}", words.join(", "))
        }
    };
    let message = format!("others are kept from changing what the operator made{unknown}");
    Protection { is_active: true, reason: "Active", message }
}

/// Whether the spec as it is now was carried out before, in as many steps as it takes: what is otherwise since then was changed by
/// somebody else.
pub(crate) fn is_carried_out(object: &DynamicObject) -> bool {
    let status = status_of(object);
    is_begun(object)
        && Readiness::of(&status.conditions).is_some_and(|said| said.reason != RECONCILE_ERROR)
        && !status.conditions.iter().any(|condition| condition.type_ == ROTATING)
}

/// Whether there was a pass for the spec as it is now. What failed in it, and what was not done, are steps that follow.
pub(crate) fn is_begun(object: &DynamicObject) -> bool {
    status_of(object).observed_generation == object.metadata.generation
}

pub(crate) fn status_of(object: &DynamicObject) -> MultiNicOperatorStatus {
    let status = object.data.get("status").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    // One that we cannot read we write anew.
    serde_json::from_value(status).unwrap_or_default()
}
