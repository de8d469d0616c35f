//! Which provider id leads to which cluster. The file is read strictly: in a file of which a part is not understood,
//! providers would be led to a cluster that nobody meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::settings::StartError;
use super::target::{Link, Target, Token};

/// The way out of `mode: ssh`.
const NO_SSH: &str = "a cluster is not reached by ssh any more: give `kubeconfig`, the path of a kubeconfig with which its \
                      API server is reached from here";

/// Who goes where.
#[derive(Debug)]
pub struct Routes {
    strict: bool,
    default: Option<Arc<Target>>,
    by_provider: BTreeMap<String, Arc<Target>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    default: Entry,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    targets: Vec<Entry>,
}

/// A target as the file writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Entry {
    provider_id: Option<String>,
    mode: Option<String>,
    namespace: Option<String>,
    kubeconfig: Option<PathBuf>,
    kube_api_server: Option<String>,
    kube_token: Option<Secret>,
    kube_token_path: Option<PathBuf>,
    kube_ca_path: Option<PathBuf>,
    // Known, and without effect or refused by name.
    kubectl_path: Option<Value>,
    ssh_host: Option<Value>,
    ssh_user: Option<Value>,
    ssh_port: Option<Value>,
    ssh_pass: Option<Secret>,
    ssh_options: Option<Value>,
}

/// A text that no message quotes.
#[derive(Debug)]
struct Secret(SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if !text.trim().is_empty() => Ok(Self(text.trim().into())),
            _ => Err(serde::de::Error::custom("must be a text in quotes, and not empty")),
        }
    }
}

impl Routes {
    /// Reads the file, or without one leads everybody to the local cluster.
    ///
    /// # Errors
    /// Where a key or a file that it names cannot be used.
    pub async fn open(path: Option<&Path>, local: Option<Link>, namespace: &str) -> Result<Self, StartError> {
        let Some(path) = path else {
            let Some(local) = local else {
                let problem =
                    "is not set, this is no pod, and there is no ROUTING_CONFIG: there is no cluster";
                return Err(StartError::Setting { setting: "KUBE_API_SERVER", problem: problem.to_owned() });
            };
            let target = Target::open("local".to_owned(), namespace.to_owned(), local).await;
            let target =
                target.map_err(|problem| StartError::Setting { setting: "KUBE_API_SERVER", problem })?;
            return Ok(Self { strict: false, default: Some(Arc::new(target)), by_provider: BTreeMap::new() });
        };
        let wrong = |problem: String| StartError::Routing { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let file = read(&text).map_err(wrong)?;
        Self::of(file, local.as_ref(), namespace).await.map_err(wrong)
    }

    async fn of(file: File, local: Option<&Link>, namespace: &str) -> Result<Self, String> {
        let File { default, strict, targets } = file;
        if default.provider_id.is_some() {
            return Err("default.providerId: the default is for those that no target names".to_owned());
        }
        if strict && targets.is_empty() {
            return Err("targets: there is none, and strict is true: nobody could be served".to_owned());
        }
        default.check("default")?;
        let mut by_provider = BTreeMap::new();
        for (at, entry) in targets.iter().enumerate() {
            let name = format!("targets[{at}]");
            let provider = entry.provider_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
            let Some(provider) = provider else {
                return Err(format!("{name}.providerId: is missing"));
            };
            entry.check(&name)?;
            let target = entry.target(&name, &default, local, namespace).await?;
            if by_provider.insert(provider.to_owned(), Arc::new(target)).is_some() {
                return Err(format!("{name}.providerId: {provider:?} is there twice"));
            }
        }
        let default = match strict {
            true => None,
            false => Some(Arc::new(Entry::default().target("default", &default, local, namespace).await?)),
        };
        Ok(Self { strict, default, by_provider })
    }

    /// The cluster of a provider id.
    ///
    /// # Errors
    /// Where there is none, in the words of the older program.
    pub fn find(&self, provider: Option<&str>) -> Result<Arc<Target>, String> {
        let provider = provider.map(str::trim).filter(|provider| !provider.is_empty());
        let named = provider.and_then(|provider| self.by_provider.get(provider));
        match (named.or(self.default.as_ref()), provider) {
            (Some(target), _) => Ok(Arc::clone(target)),
            (None, Some(provider)) => Err(format!("no route for providerID {provider:?}")),
            (None, None) => Err("providerID is required for routing".to_owned()),
        }
    }

    /// Whether an unknown provider id is an error.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// How many clusters there are.
    pub fn count(&self) -> usize {
        self.by_provider.len() + usize::from(self.default.is_some())
    }
}

fn read(text: &str) -> Result<File, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| match error.location() {
        // The message may quote a token.
        Some(at) => format!("is not YAML, or has a key twice: line {}, column {}", at.line(), at.column()),
        None => "is not YAML".to_owned(),
    })?;
    if value.is_null() {
        return Err("holds nothing".to_owned());
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        if path == "." { problem.to_string() } else { format!("{path}: {problem}") }
    })
}

impl Entry {
    fn check(&self, name: &str) -> Result<(), String> {
        match self.mode.as_deref() {
            None | Some("" | "local") => {}
            Some("ssh") => return Err(format!("{name}.mode: ssh: {NO_SSH}")),
            Some(other) => return Err(format!("{name}.mode: unsupported mode: {other}")),
        }
        let ssh = [
            ("sshHost", self.ssh_host.is_some()),
            ("sshUser", self.ssh_user.is_some()),
            ("sshPort", self.ssh_port.is_some()),
            ("sshPass", self.ssh_pass.is_some()),
            ("sshOptions", self.ssh_options.is_some()),
        ];
        if let Some((key, _)) = ssh.into_iter().find(|(_, there)| *there) {
            return Err(format!("{name}.{key}: {NO_SSH}"));
        }
        if self.kubectl_path.is_some() {
            tracing::info!(setting = format!("{name}.kubectlPath"), "has no effect any more");
        }
        let parts = [
            ("kubeApiServer", self.kube_api_server.is_some()),
            ("kubeToken", self.kube_token.is_some()),
            ("kubeTokenPath", self.kube_token_path.is_some()),
            ("kubeCaPath", self.kube_ca_path.is_some()),
        ];
        let part = parts.into_iter().find(|(_, there)| *there);
        if let (Some(_), Some((key, _))) = (&self.kubeconfig, part) {
            return Err(format!("{name}: kubeconfig and {key} exclude each other"));
        }
        if self.kube_token.is_some() && self.kube_token_path.is_some() {
            return Err(format!("{name}: kubeToken and kubeTokenPath exclude each other"));
        }
        Ok(())
    }

    fn has_parts(&self) -> bool {
        self.kube_api_server.is_some()
            || self.kube_token.is_some()
            || self.kube_token_path.is_some()
            || self.kube_ca_path.is_some()
    }

    fn token(&self) -> Option<Token> {
        let fixed = self.kube_token.as_ref().map(|Secret(token)| Token::Fixed(token.clone()));
        fixed.or_else(|| self.kube_token_path.clone().map(Token::File))
    }

    /// This entry over the default over the local cluster.
    async fn target(
        &self,
        name: &str,
        default: &Self,
        local: Option<&Link>,
        namespace: &str,
    ) -> Result<Target, String> {
        let link = self.link(name, default, local)?;
        let own = self.namespace.as_ref().or(default.namespace.as_ref());
        let namespace = own.filter(|text| !text.is_empty()).map_or(namespace, String::as_str);
        let target = Target::open(name.to_owned(), namespace.to_owned(), link).await;
        target.map_err(|problem| format!("{name}: {problem}"))
    }

    fn link(&self, name: &str, default: &Self, local: Option<&Link>) -> Result<Link, String> {
        if let Some(path) = &self.kubeconfig {
            return Ok(Link::Kubeconfig(path.clone()));
        }
        if let Some(path) = default.kubeconfig.as_ref().filter(|_| !self.has_parts()) {
            return Ok(Link::Kubeconfig(path.clone()));
        }
        let named = self.kube_api_server.as_ref().or(default.kube_api_server.as_ref());
        let token = self.token().or_else(|| default.token());
        let ca = self.kube_ca_path.as_ref().or(default.kube_ca_path.as_ref());
        match (named, local) {
            // The local cluster's token is for the local cluster alone.
            (Some(server), _) => Ok(Link::Server {
                server: server.clone(),
                ca: ca
                    .cloned()
                    .ok_or_else(|| format!("{name}: kubeCaPath is required beside kubeApiServer"))?,
                token: token.ok_or_else(|| {
                    format!("{name}: kubeToken or kubeTokenPath is required beside kubeApiServer")
                })?,
            }),
            (None, Some(Link::Server { server, ca: local_ca, token: local_token })) => Ok(Link::Server {
                server: server.clone(),
                ca: ca.unwrap_or(local_ca).clone(),
                token: token.unwrap_or_else(|| local_token.clone()),
            }),
            (None, Some(local)) if !self.has_parts() => Ok(local.clone()),
            (None, _) => Err(format!(
                "{name}: kubeconfig, or kubeApiServer with kubeCaPath and kubeToken, is required: this is no pod, and \
                 KUBE_API_SERVER is not set"
            )),
        }
    }
}
