//! The handle by which a simulated cloud is changed and watched.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multinic_core::ProjectId;
use multinic_core::config::{CloudAccess, Credentials, Endpoints, Tls};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use super::contrabass::Provider;
use super::faults::{Fault, Faults};
use super::keystone::plain;
use super::requests::{Request, Requests};
use super::server::{Shared, lock, serve};
use super::world::{ApplicationCredential, Endpoint, Project, Role, User, World, WorldError, unknown};

/// The user that a new cloud has, with the role of a reader in the first project.
/// Name, domain and password of the first user, who may read the first project.
pub const USER: (&str, &str, &str) = ("operator", "Default", "operator-password");

/// A running cloud. It ends with its handle.
#[derive(Debug)]
pub struct Simulator {
    pub(super) shared: Arc<Shared>,
    url: Url,
    project: ProjectId,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Simulator {
    /// Starts a cloud at an address; with port 0 at a free one. It has one project, one user, and a catalog with one
    /// region that points to itself.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let url = base.parse::<Url>().map_err(io::Error::other)?;
        let mut world = World::new();
        for interface in ["public", "internal", "admin"] {
            for (service, path) in [("identity", "/v3"), ("network", ""), ("compute", "/v2.1")] {
                world.endpoints.push(Endpoint {
                    service: service.to_owned(),
                    interface: interface.to_owned(),
                    region: "RegionOne".to_owned(),
                    url: format!("{base}{path}"),
                });
            }
        }
        let id = plain(world.id());
        let project = ProjectId::from(id.as_str());
        world.projects.push(Project { id, name: "demo".to_owned() });
        let (name, domain, password) = USER;
        world.users.push(User {
            name: name.to_owned(),
            domain: domain.to_owned(),
            password: password.into(),
            roles: HashMap::from([(0, Role::Reader)]),
        });
        let shared = Arc::new(Shared {
            base,
            world: Mutex::new(world),
            faults: Mutex::new(Faults::default()),
            requests: Mutex::new(Requests::default()),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { shared, url, project, task })
    }

    /// The base of all services, and Keystone's URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The first project.
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// How the first user reaches the first project.
    pub fn access(&self) -> CloudAccess {
        let (username, domain, password) = USER;
        CloudAccess {
            credentials: Credentials::Password {
                auth_url: self.url.clone(),
                username: username.to_owned(),
                domain: domain.to_owned(),
                password: password.into(),
            },
            project: Some(self.project.clone()),
            endpoints: Endpoints { neutron: None, nova: None, interface: "public".to_owned(), region: None },
            tls: Tls::default(),
            timeout: Duration::from_secs(10),
        }
    }

    /// Adds a project.
    pub fn add_project(&self, name: &str) -> ProjectId {
        let mut world = self.shared.world();
        let id = plain(world.id());
        world.projects.push(Project { id: id.clone(), name: name.to_owned() });
        id.into()
    }

    /// Adds a user of the domain `Default` with a role in a project.
    pub fn add_user(
        &self,
        name: &str,
        password: &str,
        project: &ProjectId,
        role: Role,
    ) -> Result<(), WorldError> {
        let mut world = self.shared.world();
        let project = world.project(project.as_str())?;
        world.users.push(User {
            name: name.to_owned(),
            domain: USER.1.to_owned(),
            password: password.into(),
            roles: HashMap::from([(project, role)]),
        });
        Ok(())
    }

    /// Changes a user's password. Tokens stay.
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), WorldError> {
        self.shared.world().user(user)?.password = password.into();
        Ok(())
    }

    /// Gives a user a role in a project, or takes it away. Tokens lose it too.
    pub fn set_role(&self, user: &str, project: &ProjectId, role: Option<Role>) -> Result<(), WorldError> {
        let mut world = self.shared.world();
        let project = world.project(project.as_str())?;
        let roles = &mut world.user(user)?.roles;
        match role {
            Some(role) => drop(roles.insert(project, role)),
            None => drop(roles.remove(&project)),
        }
        world.tokens.retain(|_, grant| grant.project != project);
        Ok(())
    }

    /// Adds an application credential of a user for a project.
    pub fn add_application_credential(
        &self,
        id: &str,
        secret: &str,
        user: &str,
        project: &ProjectId,
    ) -> Result<(), WorldError> {
        let mut world = self.shared.world();
        let project = world.project(project.as_str())?;
        let at = world.users.iter().position(|other| other.name == user);
        let user = at.ok_or_else(|| unknown("user", user))?;
        let secret = SecretString::from(secret);
        world.application_credentials.push(ApplicationCredential {
            id: id.to_owned(),
            secret,
            user,
            project,
        });
        Ok(())
    }

    /// Makes a provider known to Contrabass, or changes it.
    pub fn set_provider(&self, id: &str, provider: &Provider) {
        let answer = provider.to_json(id);
        self.shared.world().providers.insert(id.to_owned(), answer);
    }

    /// Replaces the catalog.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        self.shared.world().endpoints = endpoints;
    }

    /// How long new tokens are valid.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.shared.world().token_lifetime = lifetime;
    }

    /// Ends all tokens.
    pub fn expire_tokens(&self) {
        self.shared.world().tokens.clear();
    }

    /// How many tokens were issued.
    pub fn tokens_issued(&self) -> u64 {
        self.shared.world().tokens_issued
    }

    /// The most rows in one page, whatever is asked for.
    pub fn set_page_limit(&self, limit: Option<usize>) {
        self.shared.world().page_limit = limit;
    }

    /// Makes the next request below a path go wrong. Faults for one path wait for one request each, in order.
    pub fn inject(&self, path_prefix: &str, fault: Fault) {
        self.inject_times(path_prefix, 1, fault);
    }

    /// The same for the next `times` requests.
    pub fn inject_times(&self, path_prefix: &str, times: usize, fault: Fault) {
        lock(&self.shared.faults).add(path_prefix, times, fault);
    }

    /// The same for all requests, until [`Self::clear_faults`].
    pub fn inject_always(&self, path_prefix: &str, fault: Fault) {
        self.inject_times(path_prefix, usize::MAX, fault);
    }

    /// Lets everything go well again.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// The latest requests, two thousand at most.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).list()
    }

    /// How many of the latest requests were below a path.
    pub fn count(&self, path_prefix: &str) -> usize {
        self.requests().iter().filter(|request| request.path.starts_with(path_prefix)).count()
    }

    /// How many requests there were since [`Self::forget_requests`].
    pub fn total_requests(&self) -> u64 {
        lock(&self.shared.requests).total()
    }

    /// Starts counting anew.
    pub fn forget_requests(&self) {
        *lock(&self.shared.requests) = Requests::default();
    }
}
