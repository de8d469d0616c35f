//! Which fault a request meets, and what the proxy answers then.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use super::api_request::ApiRequest;

/// The faults that are on.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub latency: Duration,
    pub unavailable: bool,
    /// The writes that have had their conflict.
    pub conflicted: Option<HashSet<(String, String, String, String)>>,
    /// How many lists and watches of a resource are yet to find their version gone.
    pub expire: HashMap<String, usize>,
    pub watch_lifetime: Option<Range<Duration>>,
}

/// What the proxy says in place of the API server.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Faults {
    /// The answer to a request that meets a fault.
    pub(super) fn meet(&mut self, request: &ApiRequest, body: &[u8]) -> Option<Answer> {
        if self.unavailable {
            return Some(Answer {
                status: 503,
                content_type: "text/html",
                body: "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n\
                       </body></html>\n"
                    .to_owned(),
            });
        }
        if let Some(left) = self.expire.get_mut(&request.resource)
            && *left > 0
            && matches!(request.verb.as_str(), "list" | "watch")
        {
            *left -= 1;
            return Some(expired(request.verb == "watch"));
        }
        if let Some(conflicted) = &mut self.conflicted
            && request.is_write()
        {
            let name = match request.resource.as_str() {
                // An event that is written again has another name: all of a namespace are one kind.
                "events" => String::new(),
                _ => request.name.clone().unwrap_or_else(|| name_of(body)),
            };
            let namespace = request.namespace.clone().unwrap_or_default();
            let key = (request.verb.clone(), request.resource.clone(), namespace, name.clone());
            if conflicted.insert(key) {
                return Some(conflict(request, &name));
            }
        }
        None
    }
}

/// A new object's name is in its body only.
fn name_of(body: &[u8]) -> String {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    let name =
        ["/metadata/name", "/metadata/generateName"].into_iter().find_map(|at| object.pointer(at)?.as_str());
    name.unwrap_or_default().to_owned()
}

fn conflict(request: &ApiRequest, name: &str) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to the \
         latest version and try again",
        request.resource
    );
    let status = failure(409, "Conflict", &message);
    Answer { status: 409, content_type: "application/json", body: status.to_string() }
}

fn expired(watch: bool) -> Answer {
    let status = failure(410, "Expired", "too old resource version: 1 (2)");
    if watch {
        // A watch has begun when the API server notices; the refusal is an event.
        let event = json!({"type": "ERROR", "object": status});
        return Answer { status: 200, content_type: "application/json", body: format!("{event}\n") };
    }
    Answer { status: 410, content_type: "application/json", body: status.to_string() }
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}
