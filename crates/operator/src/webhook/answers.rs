//! What API servers are told.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};

use super::Webhook;
use crate::kinds::KINDS;
use crate::metrics::Decision;
use crate::observe::metadata_of;
use crate::protection::judge::{Act, Question, Rules, Verdict};
use crate::said::answer;
use multinic_core::brief::cut;

/// An object and the one that it was, of 1.5 MiB at most each in etcd, as text.
const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// What is said of one question in a status' event.
const MOST_TOLD: usize = 300;

type Review = AdmissionReview<DynamicObject>;
type Request = AdmissionRequest<DynamicObject>;

pub(super) fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/validate-multinic-protection", post(protection))
        .route("/validate-multinic-configurations", post(configurations))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(webhook)
}

/// Whoever sends something else is no API server.
const NO_REQUEST: StatusCode = StatusCode::BAD_REQUEST;

fn not_now(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn protection(State(webhook): State<Arc<Webhook>>, Json(review): Json<Review>) -> Response {
    let Ok(request): Result<Request, _> = review.try_into() else { return NO_REQUEST.into_response() };
    // What becomes of a question without an answer, the configuration says.
    let Some(wanted) = webhook.wanted() else { return not_now("the operator has just begun") };
    let verdict = match &wanted.rules {
        None => Verdict::Allowed,
        Some(rules) => match judge(&webhook, rules, &request).await {
            Ok(verdict) => verdict,
            Err(why) => return not_now(&why),
        },
    };
    let user = request.user_info.username.as_deref().unwrap_or("somebody");
    let act = told(&request);
    let response = AdmissionResponse::from(&request);
    let (decision, response) = match verdict {
        Verdict::Allowed => (Decision::Allowed, response),
        Verdict::Broken { reason } => {
            tracing::warn!(user, act, reason, "the glass is broken");
            if !request.dry_run {
                webhook.tally.broken(cut(format!("{user}: {act}, because: {reason}"), MOST_TOLD));
            }
            (Decision::Broken, response)
        }
        Verdict::Denied { message } => {
            tracing::info!(user, act, "refused");
            if !request.dry_run {
                webhook.tally.prevented(Timestamp::now(), cut(format!("{user}: {act}"), MOST_TOLD));
            }
            let mut response = response.deny(message);
            response.result.code = StatusCode::FORBIDDEN.as_u16();
            "Forbidden".clone_into(&mut response.result.reason);
            (Decision::Denied, response)
        }
    };
    if !request.dry_run {
        webhook.metrics.decided(operation(&request), decision);
    }
    Json(response.into_review()).into_response()
}

async fn judge(webhook: &Webhook, rules: &Rules, request: &Request) -> Result<Verdict, String> {
    let Some(old) = &request.old_object else { return Ok(Verdict::Allowed) };
    let (kind, name) = (request.kind.kind.as_str(), name(request));
    let question = |old, act| rules.judge(&Question { kind, name, old, act });
    match (&request.operation, &request.object, request.sub_resource.as_deref()) {
        (Operation::Update, Some(new), Some("scale")) => {
            if new.data.pointer("/spec/replicas") == old.data.pointer("/spec/replicas") {
                return Ok(Verdict::Allowed);
            }
            // A Scale bears neither labels nor annotations.
            let resource = &request.resource;
            let kind =
                KINDS.iter().find(|kind| kind.group == resource.group && kind.plural == resource.resource);
            let Some(kind) = kind else { return Ok(Verdict::Allowed) };
            let api = metadata_of(webhook.client.clone(), kind, request.namespace.as_deref());
            let found = api.get_opt(name).await;
            let found = found.map_err(|error| format!("cannot read {name}: {}", answer(&error)))?;
            let Some(found) = found else { return Ok(Verdict::Allowed) };
            Ok(rules.judge(&Question { kind: kind.name, name, old: &found.metadata, act: Act::Scale }))
        }
        (Operation::Update, Some(new), None | Some("")) => {
            Ok(question(&old.metadata, Act::Update { old, new }))
        }
        (Operation::Delete, _, None | Some("")) => Ok(question(&old.metadata, Act::Delete)),
        _ => Ok(Verdict::Allowed),
    }
}

fn operation(request: &Request) -> &'static str {
    match (&request.operation, request.sub_resource.as_deref()) {
        (_, Some("scale")) => "scale",
        (Operation::Delete, _) => "delete",
        _ => "update",
    }
}

/// `update Deployment multinic-controller`.
fn told(request: &Request) -> String {
    let kind = match request.sub_resource.as_deref() {
        None | Some("") => &request.kind.kind,
        Some(_) => &request.resource.resource,
    };
    format!("{} {kind} {}", operation(request), name(request))
}

/// The object's own name: who deletes a whole collection names none.
fn name(request: &Request) -> &str {
    let named = request.old_object.as_ref().and_then(|old| old.metadata.name.as_deref());
    named.unwrap_or(&request.name)
}

async fn configurations(State(webhook): State<Arc<Webhook>>, Json(review): Json<Review>) -> Response {
    let Ok(request): Result<Request, _> = review.try_into() else { return NO_REQUEST.into_response() };
    let mut response = AdmissionResponse::from(&request);
    if let Some(object) = &request.object {
        let warnings = webhook.claims.warnings(&request.kind.kind, object);
        response.warnings = (!warnings.is_empty()).then_some(warnings);
    }
    Json(response.into_review()).into_response()
}
