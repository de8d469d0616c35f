//! Each configuration's cloud, read completely or not at all, through clients that are kept from pass to pass so that
//! tokens are shared.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use multinic_core::cloud::PortProof;
use multinic_core::config::{CloudAccess, Credentials, Selection};
use multinic_core::fleet::{Candidate, Selected, select};
use multinic_core::published::{Published, PublishedInterface};
use multinic_core::{ConfigKey, PortId};
use multinic_openstack::{Cloud, CloudError, Gate, Observer, Options, Reading};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::looks::name;

/// How many questions about single ports are asked at once.
const PROOFS_AT_ONCE: usize = 8;
/// How long one of them may take. The cloud has just been read, and a pass waits for the answers.
const PROOF: Duration = Duration::from_secs(10);

/// The clients of all clouds.
pub struct Clouds {
    gate: Gate,
    observer: Observer,
    known: HashMap<Identity, Cloud>,
}

impl std::fmt::Debug for Clouds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clouds").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// What two configurations must share to share a client and its token. Secrets are in it only as a digest.
type Identity = [u8; 32];

impl Clouds {
    /// No client yet.
    pub fn new(gate: Gate, observer: Observer) -> Self {
        Self { gate, observer, known: HashMap::new() }
    }

    /// The client for a configuration's cloud.
    pub fn client(&mut self, access: &CloudAccess) -> Result<Cloud, CloudError> {
        let identity = identity(access);
        if let Some(cloud) = self.known.get(&identity) {
            return Ok(cloud.clone());
        }
        let options = Options { observer: Some(self.observer.clone()), ..Options::default() };
        let cloud = Cloud::with(access, self.gate.clone(), options)?;
        self.known.insert(identity, cloud.clone());
        Ok(cloud)
    }

    /// Forgets the clients that no configuration uses any more, and with them their secrets.
    pub fn retain<'a>(&mut self, used: impl Iterator<Item = &'a CloudAccess>) {
        let used: std::collections::HashSet<Identity> = used.map(identity).collect();
        self.known.retain(|identity, _| used.contains(identity));
    }
}

fn identity(access: &CloudAccess) -> Identity {
    let mut sha = Sha256::new();
    let mut part = |text: &str| {
        sha.update(text.len().to_le_bytes());
        sha.update(text);
    };
    match &access.credentials {
        Credentials::Password { auth_url, username, domain, password } => {
            part("password");
            [auth_url.as_str(), username, domain, password.expose_secret()].into_iter().for_each(&mut part);
        }
        Credentials::ApplicationCredential { auth_url, id, secret } => {
            part("application credential");
            [auth_url.as_str(), id, secret.expose_secret()].into_iter().for_each(&mut part);
        }
        Credentials::Provider { contrabass, provider_id, key, timeout, tls } => {
            part("provider");
            [contrabass.as_str(), provider_id, key.expose_secret()].into_iter().for_each(&mut part);
            part(&format!("{timeout:?} {tls:?}"));
        }
    }
    let CloudAccess { credentials: _, project, endpoints, tls, timeout } = access;
    part(&format!("{project:?} {endpoints:?} {tls:?} {timeout:?}"));
    sha.finalize().into()
}

/// What a look at a configuration's cloud came to.
#[derive(Debug)]
pub struct Sight {
    /// What the configuration selects there; none where that is what was seen before.
    pub selected: Option<Selected>,
    /// What spares the next look the reading.
    pub reading: Reading,
}

/// Looks at what a configuration selects in its cloud. `before` is the reading of what was seen there last.
pub async fn look(
    cloud: &Cloud,
    selection: &Selection,
    before: Option<Reading>,
) -> Result<Sight, CloudError> {
    if let Some(reading) = before
        && cloud.comes_again(selection, &reading).await?
    {
        return Ok(Sight { selected: None, reading });
    }
    // The snapshot is dropped as soon as it has been applied: it is the largest thing of a pass.
    let (snapshot, reading) = cloud.read(selection).await?;
    Ok(Sight { selected: Some(select(selection, &snapshot)), reading })
}

/// Asks the cloud about each published interface that nobody wishes any more, with the scope of its own configuration. One
/// that does not answer in time is not asked about the rest.
pub async fn prove(
    clouds: &mut Clouds,
    configs: &HashMap<ConfigKey, &CloudAccess>,
    published: &Published,
    candidates: &[Candidate],
) -> HashMap<PortId, PortProof> {
    let rows: HashMap<&PortId, &PublishedInterface> =
        published.interfaces.iter().map(|row| (row.port(), row)).collect();
    let cloud = |owner: &ConfigKey| configs.get(owner).map(|access| name(access)).unwrap_or_default();
    let silent: HashMap<String, AtomicBool> =
        candidates.iter().map(|candidate| (cloud(&candidate.owner), AtomicBool::new(false))).collect();
    let mut questions = Vec::with_capacity(candidates.len());
    for Candidate { port, owner } in candidates {
        let client = configs.get(owner).map(|access| clouds.client(access));
        let row = rows.get(port).copied();
        let silent = silent.get(&cloud(owner));
        questions.push(async move {
            let question = async { match (client, row) {
                (Some(Ok(client)), Some(row)) => match &row.project {
                    Some(project) => {
                        client.prove_port(port, row.network(), row.device(), project).await
                    }
                    None => PortProof::Unproven(
                        "an older program published it without its project; take it out of the spec to remove it"
                            .to_owned(),
                    ),
                },
                (Some(Err(error)), _) => PortProof::Unproven(error.to_string()),
                (None, _) | (_, None) => PortProof::Unproven("its configuration is not there".to_owned()),
            }};
            let unanswered = || PortProof::Unproven("the cloud did not answer in time; it is asked again".to_owned());
            if silent.is_some_and(|silent| silent.load(Ordering::Relaxed)) {
                return (port.clone(), unanswered());
            }
            let proof = match tokio::time::timeout(PROOF, question).await {
                Ok(proof) => proof,
                Err(_) => {
                    silent.into_iter().for_each(|silent| silent.store(true, Ordering::Relaxed));
                    unanswered()
                }
            };
            (port.clone(), proof)
        });
    }
    stream::iter(questions).buffer_unordered(PROOFS_AT_ONCE).collect().await
}
