//! Kubeconfigs that come from a Secret or a file that others write.
//!
//! They may name programs to run (`exec`) and files to read; whoever writes the Secret would then run programs, and read
//! files, as the controller. Only what is inline is used.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use secrecy::SecretString;
use tower::timeout::TimeoutLayer;

use crate::sinks::SinkError;
use crate::sinks::said::causes;

/// How long it may take to reach an API server.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an API server may take until its answer begins; that of a watch begins at once.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// An answer that has begun and is silent for longer is dead: the server ends each watch after 290 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// Chooses the TLS library's cryptography for the whole process, unless somebody did. The Kubernetes client asks for the
/// choice when it is made and panics where there is none; and there is none by itself, since our dependencies bring two.
pub fn choose_cryptography() {
    // An error says that the choice is made.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}

/// A client of the cluster of a kubeconfig's current context.
///
/// # Errors
/// As [`config`].
pub async fn client(kubeconfig: &SecretString) -> Result<Client, SinkError> {
    client_of(config(kubeconfig).await?)
}

/// A client that says what the API server said, and within half a minute that it says nothing.
///
/// Kube's own client asks again by itself after 429, 503 and 504, up to fifteen times and at last after minutes: one request
/// of an outage would hold up everything else, and go on waiting long after its end. Whoever asks here tries again himself.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn client_of(mut config: Config) -> Result<Client, SinkError> {
    choose_cryptography();
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.read_timeout = Some(SILENCE_LIMIT);
    let builder = ClientBuilder::try_from(config).map_err(|error| refused(causes(&error)))?;
    Ok(builder.with_layer(&TimeoutLayer::new(REQUEST_LIMIT)).build())
}

/// What a client of the cluster of a kubeconfig's current context is made of.
///
/// # Errors
/// Where it is none, names files or programs, or would send credentials over plain HTTP.
pub async fn config(kubeconfig: &SecretString) -> Result<Config, SinkError> {
    use secrecy::ExposeSecret as _;
    let kubeconfig: Kubeconfig =
        serde_saphyr::from_str(kubeconfig.expose_secret()).map_err(|error| match error.location() {
            // The message may quote a credential.
            Some(at) => refused(format!("not a kubeconfig: line {}, column {}", at.line(), at.column())),
            None => refused("not a kubeconfig"),
        })?;
    let kubeconfig = in_use(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| refused(causes(&error)))?;
    if config.cluster_url.scheme_str() != Some("https") {
        return Err(refused("server: must be https, since credentials are sent to it"));
    }
    Ok(config)
}

/// The kubeconfig with its current context alone, checked.
fn in_use(mut kubeconfig: Kubeconfig) -> Result<Kubeconfig, SinkError> {
    let current = kubeconfig.current_context.clone().unwrap_or_default();
    kubeconfig.contexts.retain(|context| context.name == current);
    let Some(context) = kubeconfig.contexts.first().and_then(|named| named.context.clone()) else {
        return Err(refused(format!("current-context: there is no context {current:?}")));
    };
    kubeconfig.clusters.retain(|cluster| cluster.name == context.cluster);
    kubeconfig.auth_infos.retain(|user| Some(&user.name) == context.user.as_ref());
    let Some(cluster) = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref()) else {
        return Err(refused(format!("contexts: there is no cluster {:?}", context.cluster)));
    };
    let Some(user) = kubeconfig.auth_infos.first().and_then(|named| named.auth_info.as_ref()) else {
        let user = context.user.unwrap_or_default();
        return Err(refused(format!("contexts: there is no user {user:?}")));
    };
    let inline = "is not used, since it names a file of this machine: put the content itself into";
    let outside = [
        (
            cluster.certificate_authority.is_some(),
            "certificate-authority",
            inline,
            "certificate-authority-data",
        ),
        (user.client_certificate.is_some(), "client-certificate", inline, "client-certificate-data"),
        (user.client_key.is_some(), "client-key", inline, "client-key-data"),
        (user.token_file.is_some(), "tokenFile", inline, "token"),
        (user.exec.is_some(), "exec", "is not run: give", "a token or a client certificate"),
        (
            user.auth_provider.is_some(),
            "auth-provider",
            "is not used: give",
            "a token or a client certificate",
        ),
    ];
    match outside.into_iter().find(|(there, ..)| *there) {
        Some((_, key, why, instead)) => Err(refused(format!("{key} {why} {instead}"))),
        None => Ok(kubeconfig),
    }
}

fn refused(why: impl Into<String>) -> SinkError {
    SinkError::Kubeconfig(why.into())
}
