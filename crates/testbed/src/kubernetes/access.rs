//! One identity's way into the API.

use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::config::AuthInfo;
use kube::{Client, Config};
use secrecy::{ExposeSecret as _, SecretString};

use super::KubernetesError;
use super::authority::Signed;
use super::error::{api, file};

/// How a client says who it is.
#[derive(Clone)]
pub(super) enum Credentials {
    /// Not at all, or by headers of its own.
    None,
    Certificate {
        certificate: String,
        key: SecretString,
    },
    Token(SecretString),
}

impl From<Signed> for Credentials {
    fn from(signed: Signed) -> Self {
        Self::Certificate { certificate: signed.certificate, key: signed.key.into() }
    }
}

/// Where the API server is, whom to trust, and who one is.
#[derive(Clone)]
pub struct Access {
    pub(super) url: String,
    pub(super) ca_pem: String,
    pub(super) ca_der: Vec<u8>,
    pub(super) credentials: Credentials,
}

impl Access {
    /// The same identity at another address, such as that of a relay; the server's certificate must name it.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The URL of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The bearer token, if that is how this identity is shown.
    pub fn token(&self) -> Option<&SecretString> {
        match &self.credentials {
            Credentials::Token(token) => Some(token),
            Credentials::None | Credentials::Certificate { .. } => None,
        }
    }

    /// What a client is made of.
    ///
    /// # Errors
    /// Where the URL is none.
    pub fn config(&self) -> Result<Config, KubernetesError> {
        // A test program is built with all that the workspace needs of rustls, which then has two libraries to choose
        // from and panics. It fails if the choice was made before, which is as good.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let url = self.url.parse().map_err(|error| {
            api(format!("use {}", self.url))(kube::Error::HttpError(hyper::http::Error::from(error)))
        })?;
        let mut config = Config::new(url);
        config.root_cert = Some(vec![self.ca_der.clone()]);
        config.auth_info = match &self.credentials {
            Credentials::None => AuthInfo::default(),
            Credentials::Certificate { certificate, key } => AuthInfo {
                client_certificate_data: Some(BASE64_STANDARD.encode(certificate)),
                client_key_data: Some(BASE64_STANDARD.encode(key.expose_secret()).into()),
                ..AuthInfo::default()
            },
            Credentials::Token(token) => AuthInfo { token: Some(token.clone()), ..AuthInfo::default() },
        };
        Ok(config)
    }

    /// A client. It belongs to the Tokio runtime within which this is called and works no longer than that.
    ///
    /// # Errors
    /// Where the URL or the credentials are none.
    pub fn client(&self) -> Result<Client, KubernetesError> {
        Client::try_from(self.config()?).map_err(api(format!("make a client of {}", self.url)))
    }

    /// A kubeconfig with everything inline.
    pub fn kubeconfig(&self) -> String {
        let user = match &self.credentials {
            Credentials::None => "    {}\n".to_owned(),
            Credentials::Certificate { certificate, key } => format!(
                "    client-certificate-data: {}\n    client-key-data: {}\n",
                BASE64_STANDARD.encode(certificate),
                BASE64_STANDARD.encode(key.expose_secret())
            ),
            Credentials::Token(token) => format!("    token: {}\n", token.expose_secret()),
        };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: testbed\n\
             clusters:\n- name: testbed\n  cluster:\n    server: {}\n    certificate-authority-data: {}\n\
             users:\n- name: testbed\n  user:\n{user}\
             contexts:\n- name: testbed\n  context:\n    cluster: testbed\n    user: testbed\n",
            self.url,
            BASE64_STANDARD.encode(&self.ca_pem),
        )
    }

    /// Writes [`Self::kubeconfig`] to a file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<(), KubernetesError> {
        fs::write(path, self.kubeconfig()).map_err(file(path))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("url", &self.url).finish_non_exhaustive()
    }
}
