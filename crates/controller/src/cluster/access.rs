//! How places are spoken to: a sink for each cluster and each Viola, kept from delivery to delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_core::desired::Position;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;

use super::deliver::Deliverer;
use super::placement::{Location, Target, Viola};
use super::report::MANAGER;
use super::rounds::{Place, Sink};
use super::secrets::Secrets;
use crate::sinks::{KubernetesSink, SinkError, ViolaSink};

/// A kubeconfig that rotated is found so late at most.
const KUBECONFIG_AGE: Duration = Duration::from_secs(300);

/// A sink with what follows it.
pub(super) struct Cluster {
    pub sink: Arc<KubernetesSink>,
    follower: JoinHandle<()>,
    kubeconfig: Option<SecretString>,
    read: Instant,
    /// Whether the last delivery had an error.
    pub ailing: bool,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Deliverer {
    /// How a place is spoken to, if that is known already.
    pub(super) fn known_sink(&self, place: &Place, position: &Position) -> Option<Sink> {
        match place {
            Place::Kubernetes(target) => {
                let sink = Arc::clone(&self.memory.sinks.get(target)?.sink);
                Some(Sink::Kubernetes(sink, Arc::new(self.memory.trust.ledger(target, position))))
            }
            Place::Viola { id, .. } => self.memory.violas.get(id).cloned().map(Sink::Viola),
        }
    }

    /// How a place is spoken to.
    pub(super) async fn sink(
        &mut self,
        place: &Place,
        position: &Position,
    ) -> Result<Option<Sink>, SinkError> {
        if let Place::Kubernetes(target) = place {
            self.cluster(target).await?;
        }
        if let Some(known) = self.known_sink(place, position) {
            return Ok(Some(known));
        }
        let Place::Viola { id, .. } = place else { return Ok(None) };
        let Some(viola) = self.violas().find(|viola| viola.id == *id) else { return Ok(None) };
        let sink = Arc::new(ViolaSink::new(viola.settings)?);
        self.memory.violas.insert(id.clone(), Arc::clone(&sink));
        Ok(Some(Sink::Viola(sink)))
    }

    /// Every Viola that something may be delivered to.
    fn violas(&self) -> impl Iterator<Item = Viola> {
        let unknown = self.defaults.place_unknown(&self.environment).viola;
        let known = self.places().filter_map(|placement| placement.viola.clone()).collect::<Vec<_>>();
        known.into_iter().chain(unknown)
    }

    /// A place in the words of the ledger.
    pub(super) fn location(&self, place: &Place) -> Option<Location> {
        match place {
            Place::Kubernetes(target) => Some(Location::Kubernetes(target.clone())),
            Place::Viola { id, provider } => {
                let viola = self.violas().find(|viola| viola.id == *id)?;
                let endpoint = viola.settings.endpoint.to_string();
                Some(Location::Viola { endpoint, provider: provider.clone() })
            }
        }
    }

    /// The sink of a target, made anew where its kubeconfig is another one now.
    pub(super) async fn cluster(&mut self, target: &Target) -> Result<Arc<KubernetesSink>, SinkError> {
        let now = Instant::now();
        if let Some(known) = self.memory.sinks.get(target) {
            let current = match &target.kubeconfig {
                None => true,
                Some(_) if !known.ailing => now.duration_since(known.read) < KUBECONFIG_AGE,
                Some(_) => false,
            };
            if current {
                return Ok(Arc::clone(&known.sink));
            }
        }
        let kubeconfig = self.kubeconfig(target).await?;
        if let Some(known) = self.memory.sinks.get_mut(target) {
            let text =
                |secret: &Option<SecretString>| secret.as_ref().map(|it| it.expose_secret().to_owned());
            known.read = now;
            if text(&known.kubeconfig) == text(&kubeconfig) {
                return Ok(Arc::clone(&known.sink));
            }
        }
        let sink = match &kubeconfig {
            None => KubernetesSink::new(self.client.clone(), &target.namespace, MANAGER),
            Some(text) => KubernetesSink::for_kubeconfig(text, &target.namespace, MANAGER).await?,
        };
        let sink = Arc::new(sink);
        let (watched, drift) = (Arc::clone(&sink), Arc::clone(&self.drift));
        let follower = tokio::spawn(async move {
            loop {
                watched.drifted().await;
                drift.notify_one();
            }
        });
        let cluster = Cluster { sink: Arc::clone(&sink), follower, kubeconfig, read: now, ailing: false };
        self.memory.sinks.insert(target.clone(), cluster);
        Ok(sink)
    }

    async fn kubeconfig(&self, target: &Target) -> Result<Option<SecretString>, SinkError> {
        let Some((namespace, name, key)) = &target.kubeconfig else { return Ok(None) };
        let mut secrets = Secrets::new(self.client.clone(), namespace);
        let text = secrets.text("spec.target.kubeconfigSecretRef", name, key).await;
        let text =
            text.map_err(|error| SinkError::Kubeconfig(format!("{}: {}", error.field, error.problem)))?;
        Ok(Some(text))
    }
}
