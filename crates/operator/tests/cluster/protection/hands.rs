//! People and programs of the cluster, and what they try.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use multinic_operator::kinds::{Key, Kind};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE, WEEK, own_certificate};

pub const GLASS: &str = "multinic.example.com/break-glass";
pub const RBAC: &str = "rbac.authorization.k8s.io";

/// A spec with controller, database and agents, and protection.
pub fn spec(is_on: bool, allowed: &[&str]) -> Value {
    json!({
        "controller": {"image": "multinic:1", "replicas": 1},
        "database": {"enabled": true},
        "agent": {"image": "multinic-agent:1"},
        "protection": {"enableMutationPrevention": is_on, "allowedOperations": allowed},
    })
}

/// Somebody, who may do everything that nobody forbids.
pub struct Hand {
    pub name: &'static str,
    pub client: Client,
}

/// What is tried at an object, as `--dry-run=server` does it: each finds the same.
#[derive(Debug, Clone)]
pub enum Try {
    Change(Value),
    /// By way of the object's status.
    Status(Value),
    Scale(i32),
    Delete,
}

/// What came of it: nothing, or what the API server says.
pub type Came = Result<(), String>;

impl Hand {
    pub fn new(bench: &Bench, name: &'static str) -> Self {
        let client = bench.control_plane.client_for(name, &["system:masters"]).unwrap();
        Self { name, client }
    }

    pub async fn tries(&self, key: &Key, what: &Try) -> Came {
        let api = key.api(self.client.clone());
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let came = match what {
            Try::Change(patch) => api.patch(&key.name, &dry, &Patch::Strategic(patch)).await.map(drop),
            Try::Status(patch) => api.patch_status(&key.name, &dry, &Patch::Merge(patch)).await.map(drop),
            Try::Scale(replicas) => {
                let patch = json!({"spec": {"replicas": replicas}});
                api.patch_subresource("scale", &key.name, &dry, &Patch::Merge(patch)).await.map(drop)
            }
            Try::Delete => {
                let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
                api.delete(&key.name, &dry).await.map(drop)
            }
        };
        said(came)
    }
}

/// What the API server says in its refusal.
pub fn said<T>(came: Result<T, kube::Error>) -> Came {
    match came {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

pub fn key(group: &str, kind: &str, name: &str) -> Key {
    let kind = Kind::find(group, kind).unwrap();
    Key { kind, namespace: kind.is_namespaced.then(|| NAMESPACE.to_owned()), name: name.to_owned() }
}

/// An operator that is asked, and carries out a spec.
pub async fn started(spec: Value) -> Option<(Bench, Hand)> {
    let mut bench = Bench::empty().await?;
    bench.run_asked(own_certificate(WEEK)).await;
    bench.want("multinic", spec).await;
    bench.until_running("multinic").await;
    let admin = Hand::new(&bench, "admin");
    Some((bench, admin))
}

/// Waits until API servers have heard what is wanted: whether others may delete the controller, and scale it.
pub async fn until_heard(bench: &Bench, admin: &Hand, may_delete: bool, may_scale: bool) {
    let controller = key("apps", "Deployment", "multinic-controller");
    bench
        .until(&format!("deleting is {may_delete} and scaling {may_scale}"), async || {
            admin.tries(&controller, &Try::Delete).await.is_ok() == may_delete
                && admin.tries(&controller, &Try::Scale(2)).await.is_ok() == may_scale
        })
        .await;
}

/// A condition of the MultiNicOperator: its status and its reason.
pub async fn condition(bench: &Bench, type_: &str) -> Option<(String, String)> {
    let status = bench.status("multinic").await;
    let found = status.conditions.into_iter().find(|it| it.type_ == type_)?;
    Some((found.status, found.reason.unwrap_or_default()))
}

/// The operator's own certificate.
pub async fn served(bench: &Bench) -> String {
    let secrets: Api<Secret> = Api::namespaced(bench.client.clone(), NAMESPACE);
    let secret = secrets.get("multinic-operator-webhook").await.unwrap();
    String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap()
}
