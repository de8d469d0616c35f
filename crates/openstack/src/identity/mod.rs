//! Who we are: a token that is renewed in time, by one at a time, and never more often than needed.

pub(crate) mod catalog;
pub(crate) mod cipher;
pub(crate) mod contrabass;
pub(crate) mod keystone;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use multinic_core::ProjectId;
use multinic_core::config::{CloudAccess, Credentials};
use secrecy::SecretString;
use tracing::info;

use crate::CloudError;
use crate::http::Http;
use catalog::Catalog;
pub use contrabass::Broker;
use contrabass::Contrabass;
use keystone::{Grant, Login};

/// A token with what came with it.
pub(crate) struct Session {
    pub token: SecretString,
    pub project: ProjectId,
    pub catalog: Catalog,
    /// Rises with each token, so that a refusal of an old one does not throw away its successor.
    generation: u64,
    renew_at: Instant,
}

impl Session {
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Keeps the session.
pub(crate) struct Identity {
    http: Http,
    source: Source,
    project: Option<ProjectId>,
    state: Mutex<State>,
    /// Held by whoever asks for a token; the others wait for the outcome.
    renewal: tokio::sync::Mutex<()>,
}

enum Source {
    Configured(Arc<Login>),
    Provider { contrabass: Box<Contrabass>, known: Mutex<Option<Arc<Login>>> },
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    generation: u64,
    attempts: u64,
    failure: Option<CloudError>,
}

impl Identity {
    pub fn new(access: &CloudAccess, http: Http) -> Result<Self, CloudError> {
        let source = match &access.credentials {
            Credentials::Password { auth_url, username, domain, password } => {
                Source::Configured(Arc::new(Login::password(auth_url, username, domain, password.clone())))
            }
            Credentials::ApplicationCredential { auth_url, id, secret } => {
                Source::Configured(Arc::new(Login::application(auth_url, id, secret.clone())))
            }
            Credentials::Provider { contrabass, provider_id, key, timeout, tls } => {
                let http = http.toward(tls, *timeout).map_err(CloudError::ContrabassTrust)?;
                let contrabass = Box::new(Contrabass::new(contrabass, provider_id, key, http)?);
                Source::Provider { contrabass, known: Mutex::default() }
            }
        };
        Ok(Self {
            http,
            source,
            project: access.project.clone(),
            state: Mutex::default(),
            renewal: tokio::sync::Mutex::default(),
        })
    }

    /// The message broker, where Contrabass named one when it was asked last.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        match &self.source {
            Source::Configured(_) => None,
            Source::Provider { contrabass, .. } => contrabass.broker(),
        }
    }

    /// The session, a new one if there is none, if it ends soon, or if it is the one that was `refused`.
    pub async fn session(&self, refused: Option<u64>) -> Result<Arc<Session>, CloudError> {
        let attempts = {
            let state = lock(&self.state);
            if let Some(session) = state.usable(refused) {
                return Ok(session);
            }
            state.attempts
        };
        let _turn = self.renewal.lock().await;
        {
            let state = lock(&self.state);
            if let Some(session) = state.usable(refused) {
                return Ok(session);
            }
            // Whoever waited here shares the failure: twenty wrong passwords in a row lock an account.
            if let Some(failure) = state.failure.as_ref().filter(|_| state.attempts != attempts) {
                return Err(failure.clone());
            }
        }
        let outcome = self.authenticate().await;
        let mut state = lock(&self.state);
        state.attempts += 1;
        match outcome {
            Ok(Grant { token, project, catalog, lifetime }) => {
                state.generation += 1;
                let session = Arc::new(Session {
                    token,
                    project,
                    catalog,
                    generation: state.generation,
                    renew_at: Instant::now() + lifetime,
                });
                state.session = Some(session.clone());
                state.failure = None;
                Ok(session)
            }
            Err(error) => {
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn authenticate(&self) -> Result<Grant, CloudError> {
        let project = self.project.as_ref();
        match &self.source {
            Source::Configured(login) => keystone::authenticate(&self.http, login, project).await,
            Source::Provider { contrabass, known } => {
                let cached = lock(known).clone();
                let login = match &cached {
                    Some(login) => login.clone(),
                    None => Arc::new(contrabass.login().await?),
                };
                let mut outcome = keystone::authenticate(&self.http, &login, project).await;
                *lock(known) = outcome.is_ok().then_some(login);
                // The password may have been changed since it was read. The same one again would only bring the
                // account nearer to being locked.
                if let (Err(CloudError::KeystoneRefused { .. }), Some(old)) = (&outcome, cached) {
                    let login = Arc::new(contrabass.login().await?);
                    if !login.same(&old) {
                        info!("Contrabass has new credentials");
                        outcome = keystone::authenticate(&self.http, &login, project).await;
                        *lock(known) = outcome.is_ok().then_some(login);
                    }
                }
                outcome
            }
        }
    }
}

impl State {
    fn usable(&self, refused: Option<u64>) -> Option<Arc<Session>> {
        let session = self.session.as_ref()?;
        let refused = refused.is_some_and(|generation| session.generation <= generation);
        (!refused && session.renew_at > Instant::now()).then(|| session.clone())
    }
}

/// What these locks guard is replaced as a whole, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
