//! The server's certificate: its own, in a Secret that the operator keeps, or somebody else's.
//!
//! Its own is signed by an authority that signs this one certificate, and whose key nobody keeps: there is nothing to steal by
//! which others could be made. So each certificate has an authority of its own, and while one takes the other's place, API
//! servers trust both.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

/// The Secret with the certificate that the operator makes.
pub const SECRET: &str = "multinic-operator-webhook";
/// Keys of that Secret, and of one of cert-manager's.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";
/// Keys of that Secret alone: when it was made, and whom API servers trust beside its authority.
const ISSUED: &str = "issued";
const PREVIOUS: &str = "previous-ca.crt";
/// Clocks of nodes differ.
const SKEW: Duration = Duration::from_secs(300);

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
    /// A new one, and a new authority that signed it. Both end after `lifetime`.
    ///
    /// # Errors
    /// Where the host is no name.
    pub fn issue(host: &str, now: Timestamp, lifetime: Duration) -> Result<Self, CertificateError> {
        let failed = |source| CertificateError::Made { host: host.to_owned(), source };
        let since = date_time_ymd(1970, 1, 1);
        let second = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
        let (begin, end) = (since + second.saturating_sub(SKEW), since + second + lifetime);
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Names tell authorities apart of which both are trusted.
        authority.distinguished_name = named(&format!("{host} since {now}"));
        (authority.not_before, authority.not_after) = (begin, end);
        let authority_key = KeyPair::generate().map_err(failed)?;
        let authority_certificate = authority.self_signed(&authority_key).map_err(failed)?;
        let mut server = CertificateParams::new([host.to_owned()]).map_err(failed)?;
        server.distinguished_name = named(host);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (server.not_before, server.not_after) = (begin, end);
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let certificate = server.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem().into(),
            authority: authority_certificate.pem(),
        })
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

    /// For the TLS library, or why it takes it not.
    pub(super) fn certified(&self) -> Result<CertifiedKey, String> {
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

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// A certificate that the operator made, as its Secret holds it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The one to serve with.
    pub pair: Pair,
    /// When it was made.
    pub issued: Timestamp,
    /// The authority of the one before, which may still be served.
    pub previous: Option<String>,
}

impl Kept {
    /// When another one is to be made: a third of its life is left then.
    pub fn renewal(&self, lifetime: Duration) -> Timestamp {
        self.issued.saturating_add(lifetime * 2 / 3).unwrap_or(Timestamp::MAX)
    }

    /// When it ends.
    pub fn end(&self, lifetime: Duration) -> Timestamp {
        self.issued.saturating_add(lifetime).unwrap_or(Timestamp::MAX)
    }

    /// The Secret that holds it.
    pub fn secret(&self, namespace: &str) -> Secret {
        let Self { pair: Pair { certificate, key, authority }, issued, previous } = self;
        let mut data = BTreeMap::from([
            (CERTIFICATE, certificate.as_str()),
            (KEY, key.expose_secret()),
            (AUTHORITY, authority.as_str()),
        ]);
        let issued = issued.to_string();
        data.insert(ISSUED, &issued);
        data.extend(previous.as_deref().map(|previous| (PREVIOUS, previous)));
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let labels =
            [("app.kubernetes.io/name", "multinic-operator"), ("app.kubernetes.io/part-of", "multinic")];
        Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().map(|(key, text)| (key.to_owned(), bytes(text))).collect()),
            ..Secret::default()
        }
    }
}

/// The certificate to keep: the known one, or a fresh one where there is none, where it cannot be used, and in the last third
/// of its life. Pure but for `issue`.
///
/// # Errors
/// Those of `issue`.
pub fn kept<E>(
    known: Option<&Secret>,
    now: Timestamp,
    lifetime: Duration,
    issue: impl FnOnce() -> Result<Pair, E>,
) -> Result<Kept, E> {
    let known = known.and_then(read);
    let skew = SignedDuration::try_from(SKEW).unwrap_or_default();
    match known {
        // One of the far future is of a clock that was wrong.
        Some(kept) if now < kept.renewal(lifetime) && kept.issued.duration_since(now) <= skew => Ok(kept),
        known => {
            let previous = known.map(|kept| kept.pair.authority);
            Ok(Kept { pair: issue()?, issued: now, previous })
        }
    }
}

fn read(secret: &Secret) -> Option<Kept> {
    let pair = Pair {
        certificate: text(secret, CERTIFICATE)?,
        key: text(secret, KEY)?.into(),
        authority: text(secret, AUTHORITY)?,
    };
    let issued = text(secret, ISSUED)?.parse().ok()?;
    pair.certified().ok()?;
    Some(Kept { pair, issued, previous: text(secret, PREVIOUS) })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn on(day: i64, known: Option<&Kept>) -> Kept {
        let secret = known.map(|kept| kept.secret("here"));
        kept(secret.as_ref(), at(day), LIFETIME, || Pair::issue("a.here.svc", at(day), LIFETIME)).unwrap()
    }

    #[test]
    fn a_certificate_is_kept_for_two_thirds_of_its_life_and_its_authority_is_trusted_beside_the_next() {
        let first = on(0, None);
        assert_eq!(first.previous, None);
        let same = on(59, Some(&first));
        assert_eq!((&same.pair.certificate, same.issued), (&first.pair.certificate, at(0)));
        let second = on(60, Some(&same));
        assert_ne!(second.pair.certificate, first.pair.certificate);
        assert_ne!(second.pair.authority, first.pair.authority);
        assert_eq!(second.previous.as_deref(), Some(first.pair.authority.as_str()));
        let after_long_sleep = on(400, Some(&second));
        assert_eq!(after_long_sleep.issued, at(400));
    }

    #[test]
    fn one_that_cannot_be_used_or_is_of_the_future_is_replaced() {
        let good = on(0, None);
        let mut other_key = good.secret("here");
        let stranger = on(0, None).secret("here").data.unwrap()[KEY].clone();
        other_key.data.as_mut().unwrap().insert(KEY.to_owned(), stranger);
        let mut no_date = good.secret("here");
        no_date.data.as_mut().unwrap().remove(ISSUED);
        for wrong in [Secret::default(), other_key, no_date] {
            let kept =
                kept(Some(&wrong), at(1), LIFETIME, || Pair::issue("a.here.svc", at(1), LIFETIME)).unwrap();
            assert_eq!(kept.issued, at(1));
        }
        assert_eq!(on(-1, Some(&good)).issued, at(-1));
    }

    #[test]
    fn a_secret_of_cert_manager_is_taken_as_it_is_and_a_wrong_one_says_what_is_wrong() {
        let mut secret = on(0, None).secret("here");
        assert!(Pair::given("mine", &secret).is_ok());
        secret.data.as_mut().unwrap().remove(KEY);
        let said = Pair::given("mine", &secret).unwrap_err().to_string();
        assert!(said.contains("mine") && said.contains(KEY), "{said}");
    }
}
