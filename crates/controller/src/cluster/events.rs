//! Events, on change only.

use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::DynamicObject;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use multinic_core::NodeName;

use super::watch::reference;
use multinic_core::brief::short;

/// The API server takes no longer note.
const MOST_NOTE: usize = 1_000;
/// More nodes than these at once get no event each: a cold start of a large fleet would fill etcd with them.
const MOST_NODES: usize = 50;

/// Writes events. A failure to do so is logged and stops nothing.
pub struct Events {
    recorder: Recorder,
    nodes: Api<Node>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Events of a controller, by the name of its process.
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client.clone(), reporter), nodes: Api::all(client) }
    }

    /// An event about a configuration.
    pub async fn on_config(&self, object: &DynamicObject, is_warning: bool, reason: &str, note: &str) {
        self.publish(&reference(object), is_warning, reason, "Reconcile", note, None).await;
    }

    /// An event about each of these nodes that is a node of this cluster.
    pub async fn on_nodes(&self, nodes: &[(NodeName, String)], reason: &str) {
        if nodes.len() > MOST_NODES {
            return;
        }
        for (node, note) in nodes {
            match self.nodes.get_opt(node.as_str()).await {
                Ok(Some(found)) => {
                    let reference = found.object_ref(&());
                    self.publish(&reference, false, reason, "Publish", note, None).await;
                }
                // A node of another cluster, or one that has not joined yet.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(node_name = %node, error = %short(&error), "cannot look a Node up for an event");
                    return;
                }
            }
        }
    }

    async fn publish(
        &self,
        about: &ObjectReference,
        is_warning: bool,
        reason: &str,
        action: &str,
        note: &str,
        secondary: Option<ObjectReference>,
    ) {
        let mut note = note.to_owned();
        if note.len() > MOST_NOTE {
            let mut end = MOST_NOTE;
            while !note.is_char_boundary(end) {
                end -= 1;
            }
            note.truncate(end);
        }
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(reason, error = %short(&error), "cannot write an event");
        }
    }
}
