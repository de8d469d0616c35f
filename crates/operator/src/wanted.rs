//! What a turn wants: objects, and in them the database's accounts and certificate, and where nodes and API servers are.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::DatabaseSpec;
use rand::distr::{Alphanumeric, SampleString as _};

use crate::api_servers;
use crate::credentials::{Credentials, Progress, SECRET, credentials};
use crate::desired::{AGENT, Addresses, CONTROLLER, DATABASE, desired, has_policies, policies};
use crate::nodes;
use crate::object::{Object, Owner};
use crate::observe::Observed;
use crate::parts::Parts;
use crate::reconciler::{Operator, RECONCILE_ERROR};
use crate::rotation::{self, Rotation, Workloads};
use crate::said::answer;
use crate::status::Problem;
use crate::tls::{self, Keys, Tls};

/// Some 190 bits.
const PASSWORD_LENGTH: usize = 32;

impl Operator {
    /// Every object that a spec wants but those that make API servers ask. While the database's accounts change, also what that
    /// waits for.
    pub(crate) async fn wanted(
        &self,
        owner: &Owner,
        parts: &Parts,
    ) -> Result<(Vec<Object>, Option<Rotation>), Problem> {
        let spec = parts.spec.as_ref().map_err(|why| Problem {
            reason: "InvalidSpec",
            message: why.clone(),
            is_stalled: true,
        })?;
        let failed = |message| Problem { reason: RECONCILE_ERROR, message, is_stalled: false };
        let workloads = self.workloads(&spec.database).await.map_err(failed)?;
        let credentials = self.credentials(&spec.database, &workloads).await.map_err(failed)?;
        let keys = self.keys(&spec.database).await.map_err(failed)?;
        let tls = keys.map(|keys| Tls { keys, is_offered: tls::is_offered(&workloads) });
        let addresses = self.addresses(spec).await.map_err(failed)?;
        let (credentials, rotation) = credentials.unzip();
        let (credentials, tls) = (credentials.as_ref(), tls.as_ref());
        let restore = parts.restore.as_ref().filter(|asked| !asked.is_done).map(|asked| &asked.what);
        let addresses = addresses.as_ref();
        let objects = desired(owner, spec, &self.manifests, credentials, tls, addresses, restore);
        Ok((objects, rotation.flatten()))
    }

    /// What changes by itself whatever the rest of a spec says, of what there is: the certificate of a database, and the addresses
    /// in NetworkPolicies.
    pub(crate) async fn renewed(&self, owner: &Owner, parts: &Parts, observed: &Observed) -> Vec<Object> {
        let mut objects = self.policies(owner, parts).await;
        objects.retain(|policy| observed.objects.contains_key(&policy.key));
        objects.extend(self.certificates(owner, parts, observed).await);
        objects
    }

    async fn policies(&self, owner: &Owner, parts: &Parts) -> Vec<Object> {
        let Some(spec) = &parts.network else { return Vec::new() };
        match self.addresses(spec).await {
            Ok(Some(addresses)) => policies(owner, spec, &self.manifests, &addresses),
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::warn!(error, "the NetworkPolicies cannot be looked at");
                Vec::new()
            }
        }
    }

    async fn certificates(&self, owner: &Owner, parts: &Parts, observed: &Observed) -> Vec<Object> {
        let is_there = observed.objects.keys().any(|key| key.is("StatefulSet", DATABASE));
        let Some(database) = parts.database.as_ref().filter(|_| is_there) else { return Vec::new() };
        let keys = self.keys(database).await.unwrap_or_else(|error| {
            tracing::warn!(error, "the database's certificate cannot be looked at");
            None
        });
        let labels = &self.manifests.database.stateful_set.metadata.labels;
        keys.and_then(|keys| Object::new(owner, &keys.secret(labels.clone()))).into_iter().collect()
    }

    /// The accounts of the database: those that there are, and new ones for the rest. While they change, also what that
    /// waits for.
    async fn credentials(
        &self,
        spec: &DatabaseSpec,
        workloads: &Workloads,
    ) -> Result<Option<(Credentials, Option<Rotation>)>, String> {
        if !spec.enabled {
            return Ok(None);
        }
        let known = self.secret(SECRET).await?;
        let progress = match known.as_ref().filter(|known| rotation::step(known).is_some()) {
            Some(known) => rotation::progress(known, workloads),
            None => Progress::default(),
        };
        let fresh = || Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH);
        let mounted = workloads.server.as_ref().and_then(rotation::mounted);
        let credentials = credentials(spec, known.as_ref(), progress, fresh);
        let credentials = credentials.keeping(known.as_ref(), mounted);
        let rotation = credentials.other.as_ref().map(|(step, _)| rotation::told(*step, progress));
        Ok(Some((credentials, rotation)))
    }

    /// The database's certificate and its authority: those that there are, as far as they are good.
    async fn keys(&self, spec: &DatabaseSpec) -> Result<Option<Keys>, String> {
        if !tls::is_wanted(spec) {
            return Ok(None);
        }
        let known = self.secret(tls::SECRET).await?;
        let keys = tls::keys(known.as_ref(), &tls::hosts(&self.namespace), Timestamp::now());
        keys.map(Some).map_err(|error| error.to_string())
    }

    /// The addresses of those whom NetworkPolicies name by them, where there are to be some.
    async fn addresses(&self, spec: &MultiNicOperatorSpec) -> Result<Option<Addresses>, String> {
        self.needs_nodes.send_replace(has_policies(spec));
        if !has_policies(spec) {
            return Ok(None);
        }
        let nodes = nodes::addresses(&self.client).await;
        let nodes = nodes.map_err(|error| format!("the Nodes cannot be read: {}", answer(&error)))?;
        let api_servers = api_servers::addresses(&self.client).await?;
        Ok(Some(Addresses { nodes, api_servers }))
    }

    pub(crate) async fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = secrets.get_opt(name).await;
        found.map_err(|error| format!("the Secret {name} cannot be read: {}", answer(&error)))
    }

    /// What has to do with the database that the operator runs, as it is now.
    async fn workloads(&self, spec: &DatabaseSpec) -> Result<Workloads, String> {
        if !spec.enabled {
            return Ok(Workloads::default());
        }
        let (client, namespace) = (&self.client, self.namespace.as_str());
        let read = async || {
            Ok::<_, kube::Error>(Workloads {
                server: Api::namespaced(client.clone(), namespace).get_opt(DATABASE).await?,
                controller: Api::namespaced(client.clone(), namespace).get_opt(CONTROLLER).await?,
                agents: Api::namespaced(client.clone(), namespace).get_opt(AGENT).await?,
            })
        };
        read().await.map_err(|error| format!("the workloads cannot be read: {}", answer(&error)))
    }
}
