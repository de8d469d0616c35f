//! Which bucket, and with which keys.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::{Certificate, redirect};
use rusty_s3::{Bucket as Address, Credentials, UrlStyle};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// The region where none is given: what servers that know no regions call theirs.
pub const REGION: &str = "us-east-1";
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest wait for an answer to a request with all that it sends, and for the next bytes of an answer. A part passes at
/// 70 kB/s within it, and a server that puts many of them together takes its time.
const SILENCE: Duration = Duration::from_secs(120);

/// Where a bucket is, and who asks.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// The server's URL; absent, Amazon's in the region.
    pub endpoint: Option<String>,
    /// Whether the URL may be one without TLS.
    pub allow_http: bool,
    /// The bucket, which is there.
    pub bucket: String,
    /// What names of objects begin with, like a path; empty, they begin with nothing.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket is in the URL's path and not in its host; absent, it is where an endpoint is given.
    pub path_style: Option<bool>,
    /// Authorities in PEM, to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The access key's id.
    pub access_key_id: SecretString,
    /// The secret access key.
    pub secret_access_key: SecretString,
    /// The token of a key that lasts for some time only.
    pub session_token: Option<SecretString>,
}

/// A setting with which no request can be made. Each names the field of the `MultiNicOperator` and the option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL is none of a server.
    #[error("the endpoint {url:?} (s3.endpoint, --s3-endpoint): {why}")]
    Endpoint {
        /// What was given.
        url: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// No bucket has this name.
    #[error("the bucket {bucket:?} (s3.bucket, --s3-bucket): {why}")]
    Bucket {
        /// What was given.
        bucket: String,
        /// What is wrong with it.
        why: String,
    },
    /// No object has such a name.
    #[error("the prefix {prefix:?} (s3.prefix, --s3-prefix) has an empty part, or one of dots only")]
    Prefix {
        /// What was given.
        prefix: String,
    },
    /// A key holds nothing.
    #[error("{what} is empty")]
    Empty {
        /// Which: its field and its option.
        what: &'static str,
    },
    /// The authorities cannot be used.
    #[error("the authorities in {} (s3.caSecretRef, --s3-ca): {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no client.
    #[error("no TLS client: {why}")]
    Client {
        /// Why.
        why: String,
    },
}

/// Where backups are, as people and status name it: the URL of what they begin with.
pub fn location(endpoint: Option<&str>, region: &str, bucket: &str, prefix: &str) -> String {
    let amazon = format!("https://s3.{region}.amazonaws.com");
    let endpoint = endpoint.unwrap_or(&amazon).trim_end_matches('/');
    let prefix = prefix.trim_matches('/');
    let end = if prefix.is_empty() { "" } else { "/" };
    format!("{endpoint}/{bucket}/{prefix}{end}")
}

/// All that requests are made of.
pub(super) struct Access {
    pub address: Address,
    pub credentials: Credentials,
    pub client: Client,
    /// What names of objects begin with.
    pub prefix: String,
    /// As people name it.
    pub location: String,
}

/// Without any content: it holds keys.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("location", &self.location).finish_non_exhaustive()
    }
}

impl BucketSettings {
    /// Makes them ready for requests.
    ///
    /// # Errors
    /// Where no request can be made with them.
    pub(super) fn access(&self) -> Result<Access, SettingsError> {
        let Self {
            endpoint,
            allow_http,
            bucket,
            prefix,
            region,
            path_style,
            ca_file,
            access_key_id,
            secret_access_key,
            session_token,
        } = self;
        let location = location(endpoint.as_deref(), region, bucket, prefix);
        let amazon = format!("https://s3.{region}.amazonaws.com");
        let text = endpoint.as_deref().unwrap_or(&amazon);
        let wrong = |why: String| SettingsError::Endpoint { url: text.to_owned(), why };
        let url: Url = text.parse().map_err(|error| wrong(format!("it is no URL: {error}")))?;
        if url.scheme() == "http" && !allow_http {
            let why = "without TLS everybody on the way reads the database: use https://, or allow it by s3.allowHttp \
                       (--s3-allow-http)";
            return Err(wrong(why.to_owned()));
        }
        let style =
            if path_style.unwrap_or(endpoint.is_some()) { UrlStyle::Path } else { UrlStyle::VirtualHost };
        if bucket.is_empty() || bucket.contains('/') || bucket.bytes().all(|byte| byte == b'.') {
            return Err(SettingsError::Bucket { bucket: bucket.clone(), why: "no bucket has it".to_owned() });
        }
        let address =
            Address::new(url, style, bucket.clone(), region.clone()).map_err(|error| match error {
                rusty_s3::BucketError::ParseError(error) => SettingsError::Bucket {
                    bucket: bucket.clone(),
                    why: format!(
                        "it cannot be a part of the host {text:?} ({error}): set s3.forcePathStyle to true"
                    ),
                },
                other => wrong(other.to_string()),
            })?;
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            // Such a part is not what it seems to be in a URL.
            path if path.split('/').any(|part| part.bytes().all(|byte| byte == b'.')) => {
                return Err(SettingsError::Prefix { prefix: prefix.clone() });
            }
            path => format!("{path}/"),
        };
        // Whoever writes a Secret by an editor leaves the end of a line.
        let key = |key: &SecretString, what| match key.expose_secret().trim() {
            "" => Err(SettingsError::Empty { what }),
            key => Ok(key.to_owned()),
        };
        let id =
            key(access_key_id, "the access key's id (s3.accessKeyIdSecretRef, --s3-access-key-id-file)")?;
        let secret = key(
            secret_access_key,
            "the secret access key (s3.secretAccessKeySecretRef, --s3-secret-access-key-file)",
        )?;
        let credentials = match session_token {
            Some(token) => Credentials::new_with_token(id, secret, token.expose_secret().trim()),
            None => Credentials::new(id, secret),
        };
        Ok(Access { address, credentials, client: client(ca_file.as_ref())?, prefix, location })
    }
}

/// Whoever is sent elsewhere by a server is told so: a request is signed for one host.
fn client(ca_file: Option<&PathBuf>) -> Result<Client, SettingsError> {
    let builder = || {
        Client::builder()
            .connect_timeout(CONNECT)
            .timeout(SILENCE)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("multinic/", env!("CARGO_PKG_VERSION")))
    };
    let Some(path) = ca_file else {
        // An image may have no authorities. Believing nobody is as strict as can be, and http:// needs none.
        let none = |_| builder().tls_certs_only([]).build();
        return builder()
            .build()
            .or_else(none)
            .map_err(|error| SettingsError::Client { why: error.to_string() });
    };
    let wrong = |why: String| SettingsError::Authorities { path: path.clone(), why };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("there is no certificate in PEM in it".to_owned()));
    }
    let merged = builder().tls_certs_merge(certificates.clone()).build();
    // The same where the system has none.
    let client = merged.or_else(|_| builder().tls_certs_only(certificates).build());
    client.map_err(|error| wrong(error.to_string()))
}
