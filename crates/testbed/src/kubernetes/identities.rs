//! Who may be somebody at a control plane, and what tests first put there.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodSpec, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Credentials;
use super::error::api;
use super::{Access, ControlPlane, KubernetesError};

/// How long a definition may take to be taken into use; an idle machine needs 50 ms.
const ESTABLISH_LIMIT: Duration = Duration::from_secs(60);
/// Who owns the fields of a definition.
const FIELD_MANAGER: &str = "multinic-testbed";

impl ControlPlane {
    /// A client of the administrator, bound to the Tokio runtime within which this is called.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn client(&self) -> Result<Client, KubernetesError> {
        self.admin().client()
    }

    /// A client of somebody with a certificate; it may do what RBAC says.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub fn client_for(&self, user: &str, groups: &[&str]) -> Result<Client, KubernetesError> {
        self.user(user, groups)?.client()
    }

    /// Somebody with a certificate: a person, or with the user `system:node:<name>` and the group `system:nodes` a
    /// kubelet.
    ///
    /// # Errors
    /// Where no certificate can be made, such as for more than two groups.
    pub fn user(&self, user: &str, groups: &[&str]) -> Result<Access, KubernetesError> {
        let credentials = self.authority.client(user, groups)?.into();
        Ok(Access { credentials, ..self.admin().clone() })
    }

    /// Nobody.
    pub fn anonymous(&self) -> Access {
        Access { credentials: Credentials::None, ..self.admin().clone() }
    }

    /// A service account, made if it is not there, with its namespace.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Access, KubernetesError> {
        self.make_service_account(namespace, name).await?;
        self.token(namespace, name, None).await
    }

    /// A pod on a node: the token that its container would find, which carries the pod's and the node's names. Service
    /// account and pod are made if they are not there; nothing runs in the pod.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn pod(
        &self,
        namespace: &str,
        service_account: &str,
        pod: &str,
        node: &str,
    ) -> Result<Access, KubernetesError> {
        self.make_service_account(namespace, service_account).await?;
        let container =
            Container { name: "main".to_owned(), image: Some("none".to_owned()), ..Container::default() };
        let spec = PodSpec {
            containers: vec![container],
            node_name: Some(node.to_owned()),
            service_account_name: Some(service_account.to_owned()),
            ..PodSpec::default()
        };
        let object = Pod { metadata: named(pod), spec: Some(spec), status: None };
        let pods = Api::namespaced(self.client()?, namespace);
        let object = get_or_create(&pods, pod, &object).await?;
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.to_owned()),
            uid: object.uid(),
        };
        self.token(namespace, service_account, Some(bound)).await
    }

    async fn make_service_account(&self, namespace: &str, name: &str) -> Result<(), KubernetesError> {
        let object = Namespace { metadata: named(namespace), ..Namespace::default() };
        get_or_create(&Api::all(self.client()?), namespace, &object).await?;
        let object = ServiceAccount { metadata: named(name), ..ServiceAccount::default() };
        get_or_create(&Api::namespaced(self.client()?, namespace), name, &object).await?;
        Ok(())
    }

    async fn token(
        &self,
        namespace: &str,
        name: &str,
        bound_object_ref: Option<BoundObjectReference>,
    ) -> Result<Access, KubernetesError> {
        let spec = TokenRequestSpec { bound_object_ref, ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let answer = answer.map_err(api(format!("get a token of {namespace}/{name}")))?;
        let token = answer.status.ok_or(KubernetesError::Incomplete("a token"))?.token;
        Ok(Access { credentials: Credentials::Token(token.into()), ..self.admin().clone() })
    }

    /// Makes a namespace of a name that nobody else has, and returns the name.
    ///
    /// # Errors
    /// Where the API server refuses.
    pub async fn new_namespace(&self, prefix: &str) -> Result<String, KubernetesError> {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        let namespaces: Api<Namespace> = Api::all(self.client()?);
        let made = namespaces.create(&PostParams::default(), &object).await;
        Ok(made.map_err(api(format!("make a namespace {prefix}-…")))?.name_any())
    }

    /// Puts a resource definition there, or brings it up to date, and waits until it is in use. Several may do so at
    /// once.
    ///
    /// # Errors
    /// Where the API server refuses or never takes it into use.
    pub async fn install_crd(&self, definition: &CustomResourceDefinition) -> Result<(), KubernetesError> {
        let name = definition.name_any();
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client()?);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = definitions.patch(&name, &parameters, &Patch::Apply(definition)).await;
        applied.map_err(api(format!("apply {name}")))?;
        let deadline = Instant::now() + ESTABLISH_LIMIT;
        while Instant::now() < deadline {
            let definition = definitions.get(&name).await.map_err(api(format!("get {name}")))?;
            let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
            if conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True")
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(KubernetesError::NotEstablished(name))
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

async fn get_or_create<K>(objects: &Api<K>, name: &str, object: &K) -> Result<K, KubernetesError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    match objects.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            objects.get(name).await.map_err(api(format!("get {name}")))
        }
        made => made.map_err(api(format!("make {name}"))),
    }
}
