//! TLS of the database that the operator runs: an authority of its own, the server's certificate by it, and the Secret that keeps
//! both. Pure but for the making of keys.
//!
//! The authority lasts for ten years, and the server's certificate is renewed under it: whoever trusts the authority has nothing
//! to hear of then. Two years before its end another one is trusted beside it, and signs the certificate after the one that
//! there is: nobody is cut off who has heard of it within months.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PodTemplateSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use multinic_api::operator::DatabaseSpec;
use secrecy::ExposeSecret as _;

use crate::certificates::{AUTHORITY, Authority, CERTIFICATE, CertificateError, KEY, Pair, SKEW, text};
use crate::component::Component;
use crate::desired::{AUTHORITIES_VOLUME, CERTIFICATE_VOLUME, DATABASE};
use crate::rotation::{Workloads, is_running};

/// The Secret. The server reads its certificate and key, its clients the authorities, and nobody the authority's key.
pub const SECRET: &str = "multinic-database-tls";
/// Keys of that Secret alone: the authority's own key, and since when there is one.
const AUTHORITY_KEY: &str = "ca.key";
const SINCE: &str = "ca.since";
/// What the authority is called.
const NAME: &str = "multinic-database";

const DAY: Duration = Duration::from_secs(86_400);
/// How long a certificate of the server is valid; another one is made when a third of that is left.
const LIFETIME: Duration = DAY.saturating_mul(365);
/// How long the authority is.
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);

/// What the Secret keeps.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The server's, and the authorities that its clients trust: the one that signs, and perhaps the one before.
    pub pair: Pair,
    authority: Authority,
    since: Timestamp,
}

/// What a turn knows of the database's TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Its keys.
    pub keys: Keys,
    /// Whether the server that is there shows its certificate, so that programs may insist on it.
    pub is_offered: bool,
}

/// Whether programs may insist on the server's certificate. A server that is there is started with it first; what programs
/// were told once they go on being told while it is started again.
pub fn is_offered(Workloads { server, controller, agents }: &Workloads) -> bool {
    let has = |template: Option<&PodTemplateSpec>, name| {
        let volumes = template.and_then(|template| template.spec.as_ref()?.volumes.as_ref());
        volumes.is_some_and(|volumes| volumes.iter().any(|volume| volume.name == name))
    };
    let programs = [
        controller.as_ref().and_then(|it| it.spec.as_ref()).map(|spec| &spec.template),
        agents.as_ref().and_then(|it| it.spec.as_ref()).map(|spec| &spec.template),
    ];
    let is_told = || programs.into_iter().any(|template| has(template, AUTHORITIES_VOLUME));
    server.as_ref().is_none_or(|server| {
        let template = server.spec.as_ref().map(|spec| &spec.template);
        let is_up = || is_running(&Component::of_stateful_set(server));
        has(template, CERTIFICATE_VOLUME) && (is_told() || is_up())
    })
}

/// Whether a database is to have TLS.
pub fn is_wanted(spec: &DatabaseSpec) -> bool {
    spec.enabled && spec.tls.as_ref().and_then(|tls| tls.enabled) != Some(false)
}

/// The names by which programs in the cluster reach the database.
pub fn hosts(namespace: &str) -> Vec<String> {
    let endings = [
        "".to_owned(),
        format!(".{namespace}"),
        format!(".{namespace}.svc"),
        format!(".{namespace}.svc.cluster.local"),
    ];
    endings.map(|ending| format!("{DATABASE}{ending}")).to_vec()
}

/// The keys to have: those that are known as far as they are good, and new ones for the rest.
///
/// # Errors
/// Where a host is no name.
pub fn keys(known: Option<&Secret>, hosts: &[String], now: Timestamp) -> Result<Keys, CertificateError> {
    let known = known.and_then(|known| read(known, now));
    if let Some(keys) = &known {
        let is_good = |pair: &Pair| {
            let later = now.saturating_add(LIFETIME / 3).unwrap_or(Timestamp::MAX);
            pair.convinces(hosts, now) && pair.convinces(hosts, later)
        };
        match is_good(&keys.pair) {
            true if now < keys.until(2) => return Ok(keys.clone()),
            // The next certificate is by another authority, of which everybody has heard by then.
            true => {
                let (authority, certificate) = Authority::new(NAME, now, AUTHORITY_LIFETIME)?;
                let trusted = format!("{certificate}{}\n", first(&keys.pair.authority));
                let pair = Pair { authority: trusted, ..keys.pair.clone() };
                return Ok(Keys { pair, authority, since: now });
            }
            false => {
                let signed = keys.authority.sign(hosts, now, LIFETIME).ok();
                let pair = signed.map(|(certificate, key)| {
                    let authority = keys.pair.authority.clone();
                    Pair { certificate, key, authority }
                });
                if let Some(pair) = pair.filter(|pair| now < keys.until(1) && is_good(pair)) {
                    return Ok(Keys { pair, ..keys.clone() });
                }
            }
        }
    }
    let (authority, trusted) = Authority::new(NAME, now, AUTHORITY_LIFETIME)?;
    let (certificate, key) = authority.sign(hosts, now, LIFETIME)?;
    Ok(Keys { pair: Pair { certificate, key, authority: trusted }, authority, since: now })
}

/// What a Secret holds, unless it is of a clock that was wrong. A certificate that it lacks is one that convinces nobody.
fn read(secret: &Secret, now: Timestamp) -> Option<Keys> {
    let since: Timestamp = text(secret, SINCE)?.parse().ok()?;
    let pair = Pair {
        certificate: text(secret, CERTIFICATE).unwrap_or_default(),
        key: text(secret, KEY).unwrap_or_default().into(),
        authority: text(secret, AUTHORITY)?,
    };
    let authority = Authority::known(NAME, since, text(secret, AUTHORITY_KEY)?.into());
    let skew = SignedDuration::try_from(SKEW).unwrap_or_default();
    (since.duration_since(now) <= skew).then_some(Keys { pair, authority, since })
}

/// The first of several certificates in PEM.
fn first(certificates: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    let end = certificates.find(END).map_or(certificates.len(), |place| place + END.len());
    certificates.get(..end).unwrap_or(certificates)
}

impl Keys {
    /// When so many lives of a certificate are left to the authority.
    fn until(&self, lives: u32) -> Timestamp {
        let age = AUTHORITY_LIFETIME.saturating_sub(LIFETIME.saturating_mul(lives));
        self.since.saturating_add(age).unwrap_or(Timestamp::MAX)
    }

    /// The Secret that keeps them.
    pub fn secret(&self, labels: Option<BTreeMap<String, String>>) -> Secret {
        let Self { pair: Pair { certificate, key, authority: trusted }, authority, since } = self;
        let since = since.to_string();
        let data = [
            (CERTIFICATE, certificate.as_str()),
            (KEY, key.expose_secret()),
            (AUTHORITY, trusted.as_str()),
            (AUTHORITY_KEY, authority.key().expose_secret()),
            (SINCE, since.as_str()),
        ];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        let metadata = ObjectMeta { name: Some(SECRET.to_owned()), labels, ..ObjectMeta::default() };
        Secret { metadata, data: Some(data.into()), ..Secret::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn on(day: i64, known: Option<&Keys>) -> Keys {
        let secret = known.map(|keys| keys.secret(None));
        keys(secret.as_ref(), &hosts("here"), at(day)).unwrap()
    }

    fn count(keys: &Keys) -> usize {
        keys.pair.authority.matches("BEGIN CERTIFICATE").count()
    }

    #[test]
    fn a_certificate_is_renewed_by_the_authority_that_everybody_trusts() {
        let first = on(0, None);
        let same = on(243, Some(&first));
        assert_eq!(same.pair.certificate, first.pair.certificate);
        let second = on(244, Some(&same));
        assert_ne!(second.pair.certificate, first.pair.certificate);
        assert_eq!(second.pair.authority, first.pair.authority);
        assert!(second.pair.convinces(&hosts("here"), at(600)));
        assert!(!second.pair.convinces(&hosts("here"), at(610)), "it ends");
        assert!(!second.pair.convinces(&hosts("elsewhere"), at(244)), "it is for its own hosts");
        let stranger = on(244, None).pair.authority;
        assert!(!Pair { authority: stranger, ..second.pair }.convinces(&hosts("here"), at(244)));
    }

    #[test]
    fn for_twenty_years_whoever_heard_the_authorities_a_month_ago_takes_the_server_for_itself() {
        let mut now = on(0, None);
        let (mut authorities, mut heard) = (vec![now.pair.authority.clone()], now.pair.authority.clone());
        for day in (1..365 * 20).step_by(30) {
            now = on(day, Some(&now));
            let server = Pair { authority: heard, ..now.pair.clone() };
            assert!(server.convinces(&hosts("here"), at(day)), "on day {day}");
            assert!(count(&now) <= 2);
            heard = now.pair.authority.clone();
            if authorities.last() != Some(&heard) {
                authorities.push(heard.clone());
            }
        }
        assert_eq!(authorities.len(), 3);
    }

    #[test]
    fn what_is_lost_damaged_of_the_future_or_ended_is_made_anew_and_the_rest_is_kept() {
        let good = on(0, None);
        let without = |key: &str| {
            let mut secret = good.secret(None);
            secret.data.as_mut().unwrap().remove(key);
            keys(Some(&secret), &hosts("here"), at(1)).unwrap()
        };
        for key in [CERTIFICATE, KEY] {
            let mended = without(key);
            assert_eq!(mended.pair.authority, good.pair.authority, "{key}");
            assert_ne!(mended.pair.certificate, good.pair.certificate, "{key}");
        }
        let mut another = good.secret(None);
        let stranger = on(0, None).secret(None).data.unwrap()[AUTHORITY_KEY].clone();
        another.data.as_mut().unwrap().insert(AUTHORITY_KEY.to_owned(), stranger);
        another.data.as_mut().unwrap().remove(CERTIFICATE);
        let another = keys(Some(&another), &hosts("here"), at(1)).unwrap();
        for anew in [
            without(AUTHORITY),
            without(AUTHORITY_KEY),
            without(SINCE),
            another,
            on(-1, Some(&good)),
            on(4000, Some(&good)),
        ] {
            assert_ne!(anew.pair.authority, good.pair.authority);
            assert!(anew.pair.convinces(&hosts("here"), anew.since) && count(&anew) == 1);
        }
    }

    #[test]
    fn no_debug_output_holds_a_key() {
        let keys = on(0, None);
        let text = format!("{keys:?}");
        assert!(!text.contains("PRIVATE KEY") && text.contains("BEGIN CERTIFICATE"), "{text}");
    }
}
