//! Certificates: an authority, and what it signs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;

/// Keys of a Secret that holds a certificate, as cert-manager has them too.
pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const AUTHORITY: &str = "ca.crt";
/// Clocks of nodes differ.
pub(crate) const SKEW: Duration = Duration::from_secs(300);

/// A certificate that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be made.
    #[error("no certificate for {host} can be made: {source}")]
    Made {
        /// For whom.
        host: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A Secret holds none.
    #[error("the Secret {secret} holds no certificate of a server: {why}")]
    Given {
        /// Which.
        secret: String,
        /// Why.
        why: String,
    },
}

/// Who signs certificates.
#[derive(Debug, Clone)]
pub struct Authority {
    name: String,
    key: SecretString,
}

impl Authority {
    /// A new one, and its certificate in PEM, which ends after `lifetime`.
    ///
    /// # Errors
    /// Where no key can be made.
    pub fn new(name: &str, since: Timestamp, lifetime: Duration) -> Result<(Self, String), CertificateError> {
        let failed = |source| CertificateError::Made { host: name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let authority = Self { name: named(name, since), key: key.serialize_pem().into() };
        let mut certificate = authority.parameters();
        set_life(&mut certificate, since, lifetime);
        let certificate = certificate.self_signed(&key).map_err(failed)?;
        Ok((authority, certificate.pem()))
    }

    /// One that there is, by its key in PEM.
    pub fn known(name: &str, since: Timestamp, key: SecretString) -> Self {
        Self { name: named(name, since), key }
    }

    /// Its key, in PEM.
    pub fn key(&self) -> &SecretString {
        &self.key
    }

    /// What is the same whenever it signs: a certificate knows its authority by name and key.
    fn parameters(&self) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.distinguished_name = distinguished(&self.name);
        parameters
    }

    /// A certificate of a server with these names, which ends after `lifetime`, and its key.
    ///
    /// # Errors
    /// Where a host is no name, or the authority's key is none.
    pub fn sign(
        &self,
        hosts: &[String],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<(String, SecretString), CertificateError> {
        let host = hosts.first().map_or(self.name.as_str(), String::as_str);
        let failed = |source| CertificateError::Made { host: host.to_owned(), source };
        let mut server = CertificateParams::new(hosts).map_err(failed)?;
        server.distinguished_name = distinguished(host);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_life(&mut server, now, lifetime);
        let key = KeyPair::generate().map_err(failed)?;
        let own_key = KeyPair::from_pem(self.key.expose_secret()).map_err(failed)?;
        let issuer = Issuer::new(self.parameters(), own_key);
        let certificate = server.signed_by(&key, &issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem().into()))
    }
}

/// Names tell authorities apart of which both are trusted.
fn named(name: &str, since: Timestamp) -> String {
    format!("{name} since {since}")
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_life(parameters: &mut CertificateParams, begin: Timestamp, lifetime: Duration) {
    let begin = Duration::from_secs(u64::try_from(begin.as_second()).unwrap_or_default());
    let epoch = date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + begin.saturating_sub(SKEW);
    parameters.not_after = epoch + begin + lifetime;
}

/// A certificate with its key, and who signed it. All in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, and those between it and its authority.
    pub certificate: String,
    /// Its key.
    pub key: SecretString,
    /// Its authority; empty where it is one that everybody trusts.
    pub authority: String,
}

impl Pair {
    /// A new one, and a new authority that signed it and whose key nobody keeps. Both end after `lifetime`.
    ///
    /// # Errors
    /// Where the host is no name.
    pub fn issue(host: &str, now: Timestamp, lifetime: Duration) -> Result<Self, CertificateError> {
        let (signer, authority) = Authority::new(host, now, lifetime)?;
        let (certificate, key) = signer.sign(&[host.to_owned()], now, lifetime)?;
        Ok(Self { certificate, key, authority })
    }

    /// That of a Secret as cert-manager makes it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn given(name: &str, secret: &Secret) -> Result<Self, CertificateError> {
        let failed = |why: String| CertificateError::Given { secret: name.to_owned(), why };
        let needed = |key: &str| text(secret, key).ok_or_else(|| failed(format!("it has no {key}")));
        let pair = Self {
            certificate: needed(CERTIFICATE)?,
            key: needed(KEY)?.into(),
            authority: text(secret, AUTHORITY).unwrap_or_default(),
        };
        pair.certified().map_err(failed)?;
        Ok(pair)
    }

    /// Whether somebody who trusts the authority alone takes whoever shows the certificate at that time for each of these
    /// hosts.
    pub fn convinces(&self, hosts: &[String], at: Timestamp) -> bool {
        self.certified().is_ok_and(|certified| convinces(&certified.cert, &self.authority, hosts, at))
    }

    /// For the TLS library, or why it takes it not.
    pub(crate) fn certified(&self) -> Result<CertifiedKey, String> {
        let chain =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("{CERTIFICATE}: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret().as_bytes());
        let key = key.map_err(|error| format!("{KEY}: {error}"))?;
        let key = any_supported_type(&key).map_err(|error| format!("{KEY}: {error}"))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| error.to_string())?;
        Ok(certified)
    }
}

/// Those who are trusted, of certificates in PEM; none where one of them is none.
pub(crate) fn trusted(authorities: &str) -> Option<RootCertStore> {
    let mut trusted = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        trusted.add(authority.ok()?).ok()?;
    }
    Some(trusted)
}

/// Whether somebody who trusts these authorities alone takes whoever shows this chain at that time for each of these hosts.
pub(crate) fn convinces(
    chain: &[CertificateDer<'_>],
    authorities: &str,
    hosts: &[String],
    at: Timestamp,
) -> bool {
    let Some((server, between)) = chain.split_first() else { return false };
    let Some(trusted) = trusted(authorities) else { return false };
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider).build();
    let Ok(verifier) = verifier else { return false };
    let second = Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default());
    let second = UnixTime::since_unix_epoch(second);
    hosts.iter().all(|host| {
        ServerName::try_from(host.as_str())
            .is_ok_and(|host| verifier.verify_server_cert(server, between, &host, &[], second).is_ok())
    })
}

/// What a Secret says under a key.
pub(crate) fn text(secret: &Secret, key: &str) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    #[test]
    fn a_secret_of_cert_manager_is_taken_as_it_is_and_a_wrong_one_says_what_is_wrong() {
        let lifetime = Duration::from_secs(3600);
        let Pair { certificate, key, .. } =
            Pair::issue("a.here.svc", Timestamp::UNIX_EPOCH, lifetime).unwrap();
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = [(CERTIFICATE, certificate.as_str()), (KEY, key.expose_secret())];
        let data = data.map(|(name, text)| (name.to_owned(), bytes(text)));
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        assert!(Pair::given("mine", &secret).is_ok());
        secret.data.as_mut().unwrap().remove(KEY);
        let said = Pair::given("mine", &secret).unwrap_err().to_string();
        assert!(said.contains("mine") && said.contains(KEY), "{said}");
    }
}
