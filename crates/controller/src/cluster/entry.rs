//! What is remembered of one configuration between passes.

use std::sync::Arc;
use std::time::Instant;

use kube::ResourceExt;
use kube::api::DynamicObject;
use multinic_api::{ORPHAN_ANNOTATION, OpenstackConfigStatus, RECONCILE_AT_ANNOTATION};
use multinic_core::config::CONFIRM_REMOVALS;

use super::conditions::Undelivered;
use super::finalizer::{Wish, wish};
use super::manifest::{Resolved, Unresolved, status_of};

/// The parts of an object whose change is one to act upon. Neither a status nor anybody's labels are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    uid: Option<String>,
    generation: Option<i64>,
    deleted: bool,
    annotations: [Option<String>; 3],
}

impl Mark {
    /// Of an object.
    pub fn of(object: &DynamicObject) -> Self {
        let annotation = |name: &str| object.annotations().get(name).cloned();
        Self {
            uid: object.uid(),
            generation: object.metadata.generation,
            deleted: matches!(wish(object), Wish::Deleted | Wish::Orphaned | Wish::Gone),
            annotations: [ORPHAN_ANNOTATION, RECONCILE_AT_ANNOTATION, CONFIRM_REMOVALS].map(annotation),
        }
    }
}

/// What is remembered of one configuration between passes.
#[derive(Debug)]
pub struct Entry {
    /// The object as it was last seen.
    pub object: Arc<DynamicObject>,
    /// The status as it was last read or written.
    pub status: OpenstackConfigStatus,
    /// What the object says, with its Secrets.
    pub resolved: Option<Result<Resolved, Unresolved>>,
    /// Of which object.
    pub resolved_from: Option<Mark>,
    /// When Secrets that could not be read are tried again.
    pub retry: Option<Instant>,
    /// The generation that was carried out last.
    pub carried: Option<i64>,
    /// When its cloud was read last.
    pub read_at: Option<jiff::Timestamp>,
    /// The request by annotation that was carried out last.
    pub handled_at: Option<String>,
    /// The request by annotation for which deliveries that failed were tried again.
    pub hurried: Option<String>,
    /// What could not be delivered.
    pub undelivered: Vec<Undelivered>,
    /// Whether it waits until the objects at its place were read.
    pub place_is_read: bool,
    /// The digest of the message broker for which a Secret was written.
    pub broker: Option<[u8; 32]>,
}

impl Entry {
    /// Of an object that was not seen before.
    pub fn new(object: Arc<DynamicObject>) -> Self {
        let status = status_of(&object);
        Self {
            carried: status.observed_generation,
            handled_at: status.last_handled_reconcile_at.clone(),
            status,
            object,
            resolved: None,
            resolved_from: None,
            retry: None,
            hurried: None,
            read_at: None,
            undelivered: Vec::new(),
            place_is_read: false,
            broker: None,
        }
    }

    /// Whether the spec is another one than what was carried out last.
    pub fn changed(&self) -> bool {
        self.carried.is_none() || self.carried != self.object.metadata.generation
    }

    /// What the annotation asks for, if that was not carried out yet.
    pub fn request(&self) -> Option<&String> {
        let at = self.object.annotations().get(RECONCILE_AT_ANNOTATION)?;
        (self.handled_at.as_ref() != Some(at)).then_some(at)
    }

    /// Whether what the object says has to be read again.
    pub fn is_outdated(&self, mark: &Mark, now: Instant) -> bool {
        self.resolved.is_none()
            || self.resolved_from.as_ref() != Some(mark)
            || self.retry.is_some_and(|retry| retry <= now)
    }
}
