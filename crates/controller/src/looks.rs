//! The looks at clouds that are under way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use multinic_core::ConfigKey;
use multinic_core::config::{CloudAccess, Credentials, OpenstackConfig};
use multinic_openstack::{Cloud, CloudError, Reading};
use tokio::sync::Semaphore;

use crate::errands::Errands;
use crate::observe::{Sight, look};

/// How many configurations of one cloud are read at once. Requests are bounded by the gate; this bounds the memory of
/// answers.
const AT_ONCE: usize = 4;

/// What came of a look.
type Look = Result<Sight, CloudError>;

/// The looks that are under way, to clouds by name.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    errands: Errands<ConfigKey, String, Look>,
    begun: BTreeMap<ConfigKey, Begun>,
    places: HashMap<String, Arc<Semaphore>>,
}

/// For what a look was begun.
#[derive(Debug)]
struct Begun {
    spec_hash: String,
    asked: Option<String>,
    cloud: String,
}

impl Looks {
    /// Begins to look, with the reading of what was seen there last. A look for the same configuration that is under way is given up.
    pub fn begin(
        &mut self,
        config: &OpenstackConfig,
        client: Result<Cloud, CloudError>,
        before: Option<Reading>,
        asked: Option<String>,
    ) {
        let cloud = name(&config.cloud);
        let places = self.places.entry(cloud.clone()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
        let (places, selection) = (Arc::clone(places), config.selection.clone());
        self.errands.begin(config.key.clone(), cloud.clone(), async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            look(&client?, &selection, before).await
        });
        let begun = Begun { spec_hash: config.spec_hash.clone(), asked, cloud };
        self.begun.insert(config.key.clone(), begun);
    }

    /// Whether the cloud of a configuration is being looked at.
    pub fn is_under_way(&self, key: &ConfigKey) -> bool {
        self.errands.is_under_way(key)
    }

    /// Whether it is, for this spec and, if there is one, this request.
    pub fn serves(&self, key: &ConfigKey, spec_hash: &str, asked: Option<&String>) -> bool {
        let begun = self.begun.get(key).filter(|_| self.is_under_way(key));
        begun.is_some_and(|begun| {
            begun.spec_hash == spec_hash && (asked.is_none() || begun.asked.as_ref() == asked)
        })
    }

    /// Those that are under way.
    pub fn under_way(&self) -> impl Iterator<Item = &ConfigKey> {
        self.errands.under_way()
    }

    /// Gives up those that nobody wants any more.
    pub fn retain(&mut self, wanted: impl Fn(&ConfigKey) -> bool) {
        self.errands.retain(wanted);
        let under_way: HashSet<&ConfigKey> = self.errands.under_way().collect();
        self.begun.retain(|key, _| under_way.contains(key));
        let clouds: HashSet<&String> = self.begun.values().map(|begun| &begun.cloud).collect();
        self.places.retain(|cloud, _| clouds.contains(cloud));
    }

    /// What has come; waits for the rest as [`Errands::collect`] does.
    pub async fn collect(&mut self, patience: Option<Duration>) -> Vec<(ConfigKey, Look)> {
        self.errands.collect(patience).await
    }

    /// Returns when a look has come that nobody waited for.
    pub async fn come(&mut self) {
        self.errands.come().await;
    }
}

/// What configurations of one cloud have in common, whatever their projects.
pub(crate) fn name(access: &CloudAccess) -> String {
    let endpoints = &access.endpoints;
    match &access.credentials {
        Credentials::Password { auth_url, .. } | Credentials::ApplicationCredential { auth_url, .. } => {
            format!("{auth_url} {endpoints:?}")
        }
        Credentials::Provider { contrabass, provider_id, .. } => {
            format!("{contrabass} {provider_id} {endpoints:?}")
        }
    }
}
