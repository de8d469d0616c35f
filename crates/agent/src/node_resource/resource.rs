//! The node's object as a source of desired state, and as the place to report to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::core::DynamicObject;
use multinic_core::NodeName;
use multinic_core::desired::{DesiredState, Silence};
use multinic_core::node::doctor::Kubelet;
use multinic_host::probes::Reach;

use super::access::{AccessError, ApiServer, RequestError, limited};
use super::firmware::ProductUuid;
use super::herald::{Herald, Rounds, Scribe, Told, set_finalizer};
use super::kubelet;
use super::node_keys::KeyPrefixes;
use super::object::NodeObject;
use super::read::{Refusal, desired};
use super::status::Word;
use super::watched::{Watched, WatchedNews};
use crate::facts::Facts;

/// How long the last report may take when the process ends.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How the object is found, and what is told where.
#[derive(Debug, Clone)]
pub struct ResourceSettings {
    /// None: as the pod that this is.
    pub kubeconfig: Option<PathBuf>,
    /// Where the object is.
    pub namespace: String,
    /// Where the kernel says the firmware's UUID.
    pub product_uuid_file: PathBuf,
    /// Of the node's label and annotation.
    pub prefixes: KeyPrefixes,
}

/// Why there is no desired state.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The API server's name cannot be resolved.
    #[error("{0}")]
    Unresolved(String),
    /// The object cannot be read.
    #[error("cannot read {object} at {place}: {error}")]
    Unread {
        /// The namespace and the name.
        object: String,
        /// The API server.
        place: String,
        /// Why.
        error: RequestError,
    },
    /// It was read and is not used.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The node's object.
#[derive(Debug)]
pub struct NodeResource {
    server: ApiServer,
    objects: Api<DynamicObject>,
    namespace: String,
    node: NodeName,
    firmware: Option<ProductUuid>,
    watched: Watched,
    herald: Option<Herald>,
    /// What was read last.
    latest: Option<Arc<NodeObject>>,
    /// What the wishes in force are from.
    agreed: Option<Arc<NodeObject>>,
    /// Whether something newer than that was refused, which is what there is to say until it is not.
    refused: bool,
}

impl NodeResource {
    /// Begins to watch. `silent`: nothing is written.
    pub async fn start(
        settings: &ResourceSettings,
        node: &NodeName,
        silent: bool,
    ) -> Result<Self, AccessError> {
        let ResourceSettings { kubeconfig, namespace, product_uuid_file, prefixes } = settings;
        let server = ApiServer::new(kubeconfig.as_deref()).await?;
        let objects: Api<DynamicObject> =
            Api::namespaced_with(server.client.clone(), namespace, &NodeObject::resource());
        let watched = Watched::start(objects.clone(), node.to_string());
        let scribe =
            Scribe::new(&server, objects.clone(), node.as_str(), prefixes.clone(), Rounds::default());
        Ok(Self {
            server,
            objects,
            namespace: namespace.clone(),
            node: node.clone(),
            firmware: ProductUuid::read(product_uuid_file),
            watched,
            herald: (!silent).then(|| Herald::start(scribe)),
            latest: None,
            agreed: None,
            refused: false,
        })
    }

    /// How the kubelet was told of its node's address, as far as the `Node` tells.
    pub async fn kubelet(&self) -> Result<Kubelet, RequestError> {
        kubelet::of_node(&Api::all(self.server.client.clone()), self.node.as_str()).await
    }

    /// The addresses of the API server.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, ResourceError> {
        self.server.addresses().await.map_err(ResourceError::Unresolved)
    }

    /// How the API server is asked whether it can be reached.
    pub fn reach(&self) -> Reach {
        self.server.reach()
    }

    /// What tells of changes.
    pub fn news(&self) -> WatchedNews {
        self.watched.news()
    }

    /// What the object asks for now. Before anything of it is done, our finalizer is on it, if that can be had.
    pub async fn read(&mut self) -> Result<DesiredState, ResourceError> {
        let read = self.watched.read().await;
        self.latest = read.map_err(|error| self.unread(error))?;
        let state = desired(self.latest.as_deref(), &self.node, self.firmware)?;
        if state.silence == Silence::Deleted {
            self.check_kind().await?;
            self.check_namespace().await?;
        }
        if let (Some(object), Silence::NotListed) = (&self.latest, state.silence)
            && self.herald.is_some()
            && !object.is_held()
            && !(state.nics.is_empty() && state.invalid.is_empty())
            && let Err(error) = set_finalizer(&self.objects, object, true).await
        {
            // Without it a deletion is no evidence, and the NICs stay: that is the safe side.
            tracing::warn!(node_name = %self.node, error = %error, "the object is used without our finalizer");
        }
        Ok(state)
    }

    fn unread(&self, error: RequestError) -> ResourceError {
        let object = format!("{}/{}", self.namespace, self.node);
        ResourceError::Unread { object, place: self.server.place(), error }
    }

    /// With the definition of their kind, all objects of a cluster are deleted. That says nothing about any node, and
    /// shows in the discovery document, which everybody may read: the API server offers no `create` any more.
    async fn check_kind(&self) -> Result<(), ResourceError> {
        let kind = NodeObject::resource();
        let listed = limited(self.server.client.list_api_group_resources(&kind.api_version)).await;
        let listed = listed.map_err(|error| self.unread(error))?;
        let kind = listed.resources.into_iter().find(|listed| listed.name == kind.plural);
        if kind.is_some_and(|kind| kind.verbs.iter().any(|verb| verb == "create")) {
            return Ok(());
        }
        let message = "the definition of MultiNicNodeConfig is being deleted, and all objects with it, which is no word \
                       about this node: nothing is taken away"
            .to_owned();
        Err(Refusal { reason: "KindTerminating", message }.into())
    }

    /// With their namespace, all objects in it are deleted, which says nothing about any node either.
    async fn check_namespace(&self) -> Result<(), ResourceError> {
        let namespaces: Api<Namespace> = Api::all(self.server.client.clone());
        let found = limited(namespaces.get_metadata(&self.namespace)).await;
        let found = found.map_err(|error| self.unread(error))?;
        if found.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        let message = format!(
            "the namespace {} is being deleted, and all objects with it, which is no word about this node: nothing is \
             taken away",
            self.namespace
        );
        Err(Refusal { reason: "NamespaceTerminating", message }.into())
    }

    /// The read is used.
    pub fn agree(&mut self) {
        self.agreed.clone_from(&self.latest);
        self.refused = false;
    }

    /// Tells what a pass found. `nothing_left`: nothing that came from an object is ours any more.
    pub fn passed(&self, facts: Facts, nothing_left: bool) {
        if self.refused {
            return;
        }
        let object = self.agreed.clone();
        let Some(object) = object.filter(|object| object.deleting) else {
            return self.tell(Told { object: self.agreed.clone(), word: Word::Passed(facts), let_go: false });
        };
        let told = match (object.is_held(), object.orphan) {
            // Nothing is known of it but that it goes.
            (false, _) => Told { object: None, word: Word::Passed(facts), let_go: false },
            (true, true) => Told { object: Some(object), word: Word::Passed(facts), let_go: true },
            (true, false) if nothing_left => {
                Told { object: Some(object), word: Word::CleanedUp, let_go: true }
            }
            (true, false) => Told { object: Some(object), word: Word::CleaningUp(facts), let_go: false },
        };
        self.tell(told);
    }

    /// Tells that the last read is not used. `nothing_ours`: there is nothing that its deletion could wait for.
    pub fn refused(&mut self, refusal: Refusal, nothing_ours: bool) {
        self.refused = true;
        let object = self.latest.clone();
        let let_go =
            object.as_ref().is_some_and(|object| object.deleting && object.is_held() && nothing_ours);
        self.tell(Told { object, word: Word::Refused(refusal), let_go });
    }

    /// Tells that everything was taken away by hand; an object that waits for that goes.
    pub async fn cleaned_up(&mut self) {
        // Whether there is an object or not: the Node is to say nothing any more.
        let object = self.watched.read().await.ok().flatten();
        let object = object.filter(|object| object.deleting && object.is_held());
        self.tell(Told { let_go: object.is_some(), object, word: Word::CleanedUp });
    }

    fn tell(&self, told: Told) {
        if let Some(herald) = &self.herald {
            herald.tell(told);
        }
    }

    /// Waits until the last word is written.
    pub async fn finish(self) {
        if let Some(herald) = self.herald {
            herald.finish(LAST_WORD).await;
        }
    }

    /// Its name for logs.
    pub fn place(&self) -> String {
        format!("{}/{} at {}", self.namespace, self.node, self.server.place())
    }
}
