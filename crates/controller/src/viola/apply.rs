//! One node after the other: what became of each, and what to answer to the whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{Api, Client};
use multinic_api::{MultiNicNodeConfig, NODE_NAME_LABEL};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::FIELD_MANAGER;
use super::validate::Order;
use crate::sinks::kubernetes::takeover::{is_applied_by, is_shared};
use crate::sinks::kubernetes::writer::{Removal, Writer};
use crate::sinks::{INTERFACE_OWNERS_ANNOTATION, SinkError};

/// As whom the older program wrote: what `kubectl apply` calls itself.
const OLDER_MANAGER: &str = "kubectl-client-side-apply";
/// How many nodes of a request are worked on at once.
const CONCURRENCY: usize = 16;

/// What became of a batch.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ApplyResult)]
pub struct Outcome {
    /// How many nodes are now as they were posted.
    pub applied: usize,
    /// A line for each of them, as kubectl writes it.
    pub output: String,
    /// The nodes that are as they were posted.
    pub results: Vec<NodeResult>,
    /// Those that are not.
    pub errors: Vec<NodeError>,
}

/// A node that is as it was posted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeResult {
    /// The node.
    pub node_name: String,
    /// `created`, `configured`, `unchanged`, `deleted`, or `releasing`: deleted, and its agent still cleans up.
    pub status: &'static str,
    /// A sentence.
    pub message: String,
    /// The object's version; absent where there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// A node that is not.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeError {
    /// The node.
    pub node_name: String,
    /// 400, 401, 403, 404, 409 or 500, with the meaning that HTTP gives to them.
    pub code: u16,
    /// What went wrong.
    pub message: String,
}

impl Outcome {
    /// 200 where everything was done, 207 where a part was, 500 where nothing was.
    pub fn status(&self) -> StatusCode {
        match (self.results.is_empty(), self.errors.is_empty()) {
            (_, true) => StatusCode::OK,
            (false, false) => StatusCode::MULTI_STATUS,
            (true, false) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Carries every order out. One node's failure is its own.
pub async fn carry_out(client: Client, namespace: &str, orders: Vec<Order>, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    let api: Api<MultiNicNodeConfig> = Api::namespaced(client, namespace);
    let writer = &Writer::new(api, FIELD_MANAGER);
    let work = stream::iter(orders).map(async |order| {
        let done = timeout_at(deadline, one(writer, &order)).await.unwrap_or_else(|_| {
            Err(NodeError::new(&order.node, 500, format!("not done within {} s", limit.as_secs_f64())))
        });
        (order, done)
    });
    let mut work = std::pin::pin!(work.buffered(CONCURRENCY));
    let mut outcome = Outcome::default();
    while let Some((order, done)) = work.next().await {
        match done {
            Ok(result) => {
                let verb = if result.status == "releasing" { "deleted" } else { result.status };
                // Writing to a String does not fail.
                let _ = writeln!(outcome.output, "multinicnodeconfig.multinic.io/{} {verb}", order.node);
                outcome.results.push(result);
            }
            Err(error) => {
                let message = &error.message;
                tracing::warn!(
                    node_name = order.node,
                    code = error.code,
                    error = message,
                    "a node was not applied"
                );
                let _ = writeln!(
                    outcome.output,
                    "error: multinicnodeconfig.multinic.io/{}: {message}",
                    order.node
                );
                outcome.errors.push(error);
            }
        }
    }
    outcome.applied = outcome.results.len();
    outcome
}

async fn one(writer: &Writer, order: &Order) -> Result<NodeResult, NodeError> {
    let Order { node, object } = order;
    let failed = |error: SinkError| NodeError::of(node, &error);
    let result = |status, message: &str, resource_version| NodeResult {
        node_name: node.clone(),
        status,
        message: message.to_owned(),
        resource_version,
    };
    let Some(wanted) = object else {
        return match writer.delete(node, |there| is_of_viola(there, node)).await.map_err(failed)? {
            Removal::Absent => Ok(result("deleted", "there was nothing to delete", None)),
            Removal::Gone => Ok(result("deleted", "deleted", None)),
            Removal::Releasing => Ok(result(
                "releasing",
                "marked for deletion; the node's agent still takes its NICs away",
                None,
            )),
        };
    };
    let there = writer.get(node).await.map_err(failed)?;
    if there.as_ref().is_some_and(|there| there.metadata.deletion_timestamp.is_some()) {
        let message = "is being deleted, and its agent still cleans up: post it again when that is done";
        return Err(NodeError::new(node, 409, message.to_owned()));
    }
    let fields = there.as_ref().and_then(|there| there.metadata.managed_fields.as_deref());
    let shared = fields.is_some_and(|fields| is_shared(fields, FIELD_MANAGER));
    let applied = writer.apply(wanted, shared).await.map_err(failed)?;
    let version = applied.metadata.resource_version;
    Ok(match there {
        None => result("created", "created", version),
        Some(there) if there.metadata.resource_version == version => {
            result("unchanged", "was there already", version)
        }
        Some(_) => result("configured", "changed", version),
    })
}

/// Whether the object was made here, or by the older program: it let kubectl apply the whole object on the client's side,
/// with this label and no other annotation than kubectl's. Who only annotated or edited an object of somebody else is no
/// such kubectl, nor is one beside a program that applies the object itself.
fn is_of_viola(object: &MultiNicNodeConfig, node: &str) -> bool {
    let fields = object.metadata.managed_fields.as_deref().unwrap_or_default();
    if is_applied_by(fields, FIELD_MANAGER) {
        return true;
    }
    let has =
        |map: &Option<BTreeMap<String, String>>, key| map.as_ref().and_then(|map| map.get(key)).cloned();
    let labelled = has(&object.metadata.labels, NODE_NAME_LABEL).is_some_and(|value| value == node);
    let published = has(&object.metadata.annotations, INTERFACE_OWNERS_ANNOTATION).is_some();
    let by_kubectl = |entry: &ManagedFieldsEntry| {
        let holds_interfaces = is_shared(std::slice::from_ref(entry), FIELD_MANAGER);
        entry.manager.as_deref() == Some(OLDER_MANAGER) && holds_interfaces
    };
    // An agent applies the status.
    let applied = |entry: &ManagedFieldsEntry| {
        entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    labelled && !published && fields.iter().any(by_kubectl) && !fields.iter().any(applied)
}

impl NodeError {
    fn new(node: &str, code: u16, message: String) -> Self {
        Self { node_name: node.to_owned(), code, message }
    }

    fn of(node: &str, error: &SinkError) -> Self {
        let code = match error {
            SinkError::Foreign { .. } => 409,
            SinkError::Kubernetes { status: Some(422), .. } => 400,
            SinkError::Kubernetes { status: Some(code @ (400 | 401 | 403 | 404 | 409)), .. } => *code,
            _ => 500,
        };
        Self::new(node, code, error.to_string())
    }
}
