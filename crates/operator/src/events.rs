//! Events about a `MultiNicOperator`, on change only.

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use multinic_api::MultiNicOperator;

use crate::object::MANAGER;
use multinic_core::brief::{cut, short};

/// The API server takes no longer note.
const MOST_NOTE: usize = 1_000;

/// Writes events. A failure to do so is logged and stops nothing.
pub(crate) struct Events(Recorder);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(instance) };
        Self(Recorder::new(client, reporter))
    }

    pub(crate) async fn publish(&self, about: &DynamicObject, is_warning: bool, reason: &str, note: String) {
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(cut(note, MOST_NOTE)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = about.object_ref(&ApiResource::erase::<MultiNicOperator>(&()));
        if let Err(error) = self.0.publish(&event, &reference).await {
            tracing::debug!(reason, error = %short(&error), "cannot write an event");
        }
    }
}
