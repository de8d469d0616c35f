//! Every setting of the Viola API, each once: a flag, its environment variable, its default.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use super::target::{Link, Token};
use multinic_core::duration;

/// Where Kubernetes puts a pod's credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The flags of `multinic viola`.
#[derive(Debug, Clone, Args)]
pub struct ViolaServerArgs {
    /// Address and port to listen on; without an address, on all.
    #[arg(long, env = "LISTEN_ADDR", value_parser = listen_address, default_value = ":8080")]
    pub listen_addr: SocketAddr,
    /// Namespace of the MultiNicNodeConfigs, where a target names none.
    #[arg(long, env = "TARGET_NAMESPACE", default_value = "multinic-system")]
    pub target_namespace: String,
    /// File that says which x-provider-id leads to which cluster. [default: all to the local one]
    #[arg(long, value_name = "FILE", env = "ROUTING_CONFIG")]
    pub routing_config: Option<PathBuf>,
    /// Time limit of all writes of one request.
    #[arg(long, env = "KUBECTL_TIMEOUT", value_parser = duration::parse_positive, default_value = "30s")]
    pub apply_timeout: Duration,
    /// API server of the local cluster. [default: that of the pod]
    #[arg(long, env = "KUBE_API_SERVER")]
    pub kube_api_server: Option<String>,
    /// PEM file of its certification authority. [default: that of the pod's service account]
    #[arg(long, value_name = "FILE", env = "KUBE_CA_PATH")]
    pub kube_ca_path: Option<PathBuf>,
    /// File with the token for it; read again when it changes. [default: that of the pod's service account]
    #[arg(long, value_name = "FILE", env = "KUBE_TOKEN_PATH")]
    pub kube_token_path: Option<PathBuf>,
    /// File with the bearer tokens of callers, one per line; read again when it changes. [default: everybody may post]
    #[arg(long, value_name = "FILE", env = "VIOLA_AUTH_TOKENS_FILE")]
    pub auth_tokens_file: Option<PathBuf>,
    /// PEM file of the server's certificate; read again when it changes. [default: plain HTTP]
    #[arg(long, value_name = "FILE", env = "VIOLA_TLS_CERT_FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file of its key.
    #[arg(long, value_name = "FILE", env = "VIOLA_TLS_KEY_FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// PEM file of the authority that signed callers' certificates: who has none is not let in.
    #[arg(long, value_name = "FILE", env = "VIOLA_CLIENT_CA_FILE", requires = "tls_cert_file")]
    pub client_ca_file: Option<PathBuf>,
    /// Without effect: the API server is spoken to directly.
    #[arg(long, env = "KUBECTL_PATH", hide = true)]
    pub kubectl_path: Option<String>,
    /// Without effect: the API's description is generated.
    #[arg(long, env = "OPENAPI_PATH", hide = true)]
    pub openapi_path: Option<String>,
}

/// What the server is started with.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The namespace of objects, where a target names none.
    pub namespace: String,
    /// The routing file.
    pub routing: Option<PathBuf>,
    /// The local cluster, if there is one.
    pub local: Option<Link>,
    /// Time limit of all writes of one request.
    pub limit: Duration,
    /// The file of callers' tokens.
    pub tokens: Option<PathBuf>,
    /// The server's own certificate.
    pub tls: Option<TlsPaths>,
}

/// The files of the server's TLS.
#[derive(Debug, Clone)]
pub struct TlsPaths {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority of callers' certificates; none where callers need none.
    pub clients: Option<PathBuf>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting or a file that it names.
    #[error("{setting}: {problem}")]
    Setting {
        /// The environment variable.
        setting: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The routing file.
    #[error("ROUTING_CONFIG {}: {problem}", path.display())]
    Routing {
        /// Its path.
        path: PathBuf,
        /// The key that is wrong, and why.
        problem: String,
    },
    /// The port.
    #[error("cannot listen on {address}: {source}; choose another LISTEN_ADDR")]
    Listen {
        /// What was wanted.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl ViolaServerArgs {
    /// Puts the settings together. `environment` looks up what is secret and so no flag (`KUBE_TOKEN`), and where
    /// Kubernetes put the pod's API server.
    ///
    /// # Errors
    /// Where `KUBE_API_SERVER` is given without what belongs to it.
    pub fn settings(self, environment: impl Fn(&str) -> Option<String>) -> Result<Settings, StartError> {
        let Self {
            listen_addr,
            target_namespace,
            routing_config,
            apply_timeout,
            kube_api_server,
            kube_ca_path,
            kube_token_path,
            auth_tokens_file,
            tls_cert_file,
            tls_key_file,
            client_ca_file,
            kubectl_path,
            openapi_path,
        } = self;
        for (name, value) in [("KUBECTL_PATH", kubectl_path), ("OPENAPI_PATH", openapi_path)] {
            if value.is_some() {
                tracing::info!(setting = name, "has no effect any more");
            }
        }
        let given = environment("KUBE_TOKEN").map(|token| Token::Fixed(SecretString::from(token.trim())));
        let of_pod = || {
            let (host, port) =
                (environment("KUBERNETES_SERVICE_HOST")?, environment("KUBERNETES_SERVICE_PORT")?);
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Some(format!("https://{host}:{port}"))
        };
        let local = kube_api_server.or_else(of_pod).map(|server| Link::Server {
            server,
            ca: kube_ca_path.unwrap_or_else(|| format!("{SERVICE_ACCOUNT}/ca.crt").into()),
            token: given.unwrap_or_else(|| {
                Token::File(kube_token_path.unwrap_or_else(|| format!("{SERVICE_ACCOUNT}/token").into()))
            }),
        });
        let tls = tls_cert_file.zip(tls_key_file);
        Ok(Settings {
            listen: listen_addr,
            namespace: target_namespace,
            routing: routing_config,
            local,
            limit: apply_timeout,
            tokens: auth_tokens_file,
            tls: tls.map(|(certificate, key)| TlsPaths { certificate, key, clients: client_ca_file }),
        })
    }
}

/// Reads `:8080`, `127.0.0.1:8080` and `[::1]:8080`.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| "not an address and port of the form :8080 or 127.0.0.1:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: ViolaServerArgs,
    }

    fn settings(flags: &[&str], environment: &[(&str, &str)]) -> Settings {
        let flags = [&["viola"], flags].concat();
        let look_up = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Cli::try_parse_from(flags).unwrap().args.settings(look_up).unwrap()
    }

    #[test]
    fn a_port_alone_is_a_port_on_all_addresses() {
        assert_eq!(listen_address(":8080").unwrap().to_string(), "0.0.0.0:8080");
        assert_eq!(listen_address("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert!(listen_address("8080").is_err());
    }

    #[test]
    fn the_local_cluster_is_that_of_the_pod_unless_it_is_named() {
        let pod = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")];
        let Some(Link::Server { server, ca, token: Token::File(token) }) = settings(&[], &pod).local else {
            panic!("no local cluster");
        };
        assert_eq!(server, "https://[fd00::1]:443");
        assert_eq!(ca.display().to_string(), format!("{SERVICE_ACCOUNT}/ca.crt"));
        assert_eq!(token.display().to_string(), format!("{SERVICE_ACCOUNT}/token"));
        let named = [pod[0], pod[1], ("KUBE_TOKEN", "t")];
        let Some(Link::Server { server, token, .. }) =
            settings(&["--kube-api-server", "https://other"], &named).local
        else {
            panic!("no local cluster");
        };
        assert_eq!(server, "https://other");
        assert!(matches!(token, Token::Fixed(_)));
        assert!(settings(&[], &[]).local.is_none());
    }
}
