//! An etcd and a kube-apiserver: how they start, stop, and are reached.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::authority::{Authority, write_token_keys};
use super::binaries::{API_SERVER, CONTROLLERS, ETCD};
use super::error::file;
use super::guarded::Guarded;
use super::launch::{free_port, start_api_server, start_controllers, start_etcd};
use super::{Access, KubernetesError, binaries};
use crate::node::NetNs;
use crate::program;
use crate::relay::relay;

/// How often another port is tried because another process took the one before in the meantime.
const START_ATTEMPTS: u32 = 5;
const NAMES: [&str; 6] =
    ["127.0.0.1", "::1", "localhost", "10.0.0.1", "kubernetes.default", "kubernetes.default.svc"];
/// What a control plane is to be like.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(super) address: IpAddr,
    names: Vec<String>,
    pub(super) arguments: Vec<String>,
}

impl Options {
    /// Where the API server listens, in place of 127.0.0.1. Its certificate names the address.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// Another name or address that the API server's certificate is to hold.
    pub fn name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// A further argument of kube-apiserver, such as `--v=4`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where a program is missing or does not come up.
    pub fn start(self) -> Result<ControlPlane, KubernetesError> {
        let folder = tempfile::Builder::new().prefix("kubernetes-").tempdir();
        let folder = folder.map_err(file(std::env::temp_dir()))?;
        match ControlPlane::start_in(folder.path(), &self) {
            Ok((parts, authority, admin)) => {
                Ok(ControlPlane { parts, authority, admin, options: self, folder })
            }
            Err(error) => {
                if matches!(error, KubernetesError::NotUp { .. }) {
                    // The error names a log in there; the data are large and tell nothing.
                    let _ = fs::remove_dir_all(folder.keep().join("data"));
                }
                Err(error)
            }
        }
    }
}

/// A running etcd and kube-apiserver, with RBAC, the node authorizer and NodeRestriction. They are killed when this is
/// dropped.
pub struct ControlPlane {
    // Before the folder, which goes when they have ended.
    parts: Parts,
    pub(super) authority: Authority,
    admin: Access,
    options: Options,
    folder: TempDir,
}

#[derive(Debug)]
struct Parts {
    controllers: Option<Guarded>,
    api: Option<Guarded>,
    _etcd: Guarded,
    port: u16,
}

impl ControlPlane {
    /// Whether etcd and kube-apiserver are there. Where they are not, says so on standard error once per call; the
    /// caller then skips what it wanted to test.
    ///
    /// # Panics
    /// Where they are not and the environment says that real parts are required.
    pub fn installed() -> bool {
        binaries::installed(&[ETCD, API_SERVER])
    }

    /// The same, for [`Self::start_controllers`].
    ///
    /// # Panics
    /// As [`Self::installed`].
    pub fn controllers_installed() -> bool {
        binaries::installed(&[ETCD, API_SERVER, CONTROLLERS])
    }

    /// Starts one on a free port of 127.0.0.1 and waits until it is ready.
    ///
    /// # Errors
    /// Where a program is missing or does not come up.
    pub fn start() -> Result<Self, KubernetesError> {
        Self::options().start()
    }

    /// Starts one that is otherwise.
    pub fn options() -> Options {
        Options { address: Ipv4Addr::LOCALHOST.into(), names: Vec::new(), arguments: Vec::new() }
    }

    /// One for all tests of this process that neither stop it nor need it empty. It ends with the process. Tests keep
    /// apart by namespaces of their own ([`Self::new_namespace`]).
    ///
    /// # Errors
    /// Where a program is missing or does not come up.
    pub fn shared() -> Result<&'static Self, &'static KubernetesError> {
        static SHARED: OnceLock<Result<ControlPlane, KubernetesError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start_in(folder: &Path, options: &Options) -> Result<(Parts, Authority, Access), KubernetesError> {
        let authority = Authority::new()?;
        let mut names: Vec<String> = NAMES.map(str::to_owned).to_vec();
        names.push(options.address.to_string());
        names.extend(options.names.iter().cloned());
        authority.server(&names)?.write(folder, "server")?;
        write_token_keys(folder)?;
        let ca = folder.join("ca.crt");
        fs::write(&ca, authority.pem()).map_err(file(&ca))?;

        let etcd = start_etcd(folder)?;
        let mut admin = Access {
            url: String::new(),
            ca_pem: authority.pem(),
            ca_der: authority.der(),
            credentials: authority.client("admin", &["system:masters"])?.into(),
        };
        let mut attempt = 1;
        let (api, port) = loop {
            let port = free_port(options.address)?;
            admin.url = format!("https://{}", SocketAddr::new(options.address, port));
            match start_api_server(folder, options, port, &admin) {
                Err(KubernetesError::NotUp { tail, .. })
                    if attempt < START_ATTEMPTS && tail.contains("address already in use") =>
                {
                    attempt += 1;
                }
                started => break (started?, port),
            }
        };
        Ok((Parts { controllers: None, api: Some(api), _etcd: etcd, port }, authority, admin))
    }

    /// The administrator: a member of `system:masters`.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// The URL of the API server.
    pub fn url(&self) -> &str {
        self.admin.url()
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.options.address, self.parts.port)
    }

    /// The certificate of the authority that signed the API server's and the clients'.
    pub fn ca_pem(&self) -> &str {
        &self.admin.ca_pem
    }

    /// The folder with the logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the API server reachable within a namespace, at an address of it (127.0.0.1, or one that
    /// [`Options::name`] put into the certificate), for as long as the process lives. Returns the URL for
    /// [`Access::at`].
    ///
    /// # Errors
    /// Where the namespace or the address cannot be used.
    pub fn reach_from(&self, node: &NetNs, at: IpAddr) -> Result<String, KubernetesError> {
        let port = relay(node, at, self.address())?;
        Ok(format!("https://{}", SocketAddr::new(at, port)))
    }

    /// Starts the controllers (garbage collection, service accounts, namespaces' ends, and the rest) and waits until they
    /// work.
    ///
    /// # Errors
    /// Where kube-controller-manager is missing or does not come up.
    pub fn start_controllers(&mut self) -> Result<(), KubernetesError> {
        let user = self.user("system:kube-controller-manager", &[])?;
        self.parts.controllers = Some(start_controllers(self.folder.path(), &user, &self.admin)?);
        Ok(())
    }

    /// Stops the API server as an administrator would. etcd keeps the data.
    pub fn stop(&mut self) {
        if let Some(api) = self.parts.api.take() {
            api.end();
        }
    }

    /// Ends the API server as the kernel would that is out of memory (SIGKILL).
    pub fn kill(&mut self) {
        self.parts.api = None;
    }

    /// Starts the API server again, on the same port and data, after stopping it if it runs.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn restart(&mut self) -> Result<(), KubernetesError> {
        self.stop();
        self.parts.api =
            Some(start_api_server(self.folder.path(), &self.options, self.parts.port, &self.admin)?);
        Ok(())
    }

    /// Stops the API server's process in its tracks, as a dead machine would: connections stay open and nothing answers.
    pub fn pause(&self) {
        if let Some(api) = &self.parts.api {
            program::freeze(api.process());
        }
    }

    /// Undoes [`Self::pause`].
    pub fn resume(&self) {
        if let Some(api) = &self.parts.api {
            program::thaw(api.process());
        }
    }
}
