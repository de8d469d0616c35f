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
use secrecy::ExposeSecret as _;

use crate::certificates::{AUTHORITY, CERTIFICATE, KEY, Pair, SKEW, text};

/// The Secret with the certificate that the operator makes.
pub const SECRET: &str = "multinic-operator-webhook";
/// Keys of that Secret alone: when it was made, when it ends, and whom API servers trust beside its authority.
const ISSUED: &str = "issued";
const EXPIRES: &str = "expires";
const PREVIOUS: &str = "previous-ca.crt";
/// A certificate that the operator made, as its Secret holds it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The one to serve with.
    pub pair: Pair,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The authority of the one before, which may still be served.
    pub previous: Option<String>,
}

impl Kept {
    /// When another one is to be made: a third of its life is left then, or of the `lifetime` that one is to have now if that
    /// is shorter.
    pub fn renewal(&self, lifetime: Duration) -> Timestamp {
        let own = Duration::try_from(self.expires.duration_since(self.issued)).unwrap_or_default();
        after(self.issued, own.min(lifetime) * 2 / 3)
    }

    /// The Secret that holds it.
    pub fn secret(&self, namespace: &str) -> Secret {
        let Self { pair: Pair { certificate, key, authority }, issued, expires, previous } = self;
        let mut data = BTreeMap::from([
            (CERTIFICATE, certificate.as_str()),
            (KEY, key.expose_secret()),
            (AUTHORITY, authority.as_str()),
        ]);
        let [issued, expires] = [issued, expires].map(ToString::to_string);
        data.insert(ISSUED, &issued);
        data.insert(EXPIRES, &expires);
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
            Ok(Kept { pair: issue()?, issued: now, expires: after(now, lifetime), previous })
        }
    }
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

fn read(secret: &Secret) -> Option<Kept> {
    let pair = Pair {
        certificate: text(secret, CERTIFICATE)?,
        key: text(secret, KEY)?.into(),
        authority: text(secret, AUTHORITY)?,
    };
    let issued = text(secret, ISSUED)?.parse().ok()?;
    // One of an earlier version does not say when it ends, and may have ended.
    let expires = text(secret, EXPIRES).map_or(Ok(issued), |text| text.parse()).ok()?;
    pair.certified().ok()?;
    Some(Kept { pair, issued, expires, previous: text(secret, PREVIOUS) })
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
    fn a_certificate_ends_when_it_does_whatever_lifetime_the_next_one_has() {
        const DAY: Duration = Duration::from_secs(86_400);
        let issue = |day: i64, lifetime| move || Pair::issue("a.here.svc", at(day), lifetime);
        let short = kept(None, at(0), DAY, issue(0, DAY)).unwrap().secret("here");
        let kept_on = |day| kept(Some(&short), at(day), LIFETIME, issue(day, LIFETIME)).unwrap().issued;
        assert_eq!(kept_on(0), at(0));
        assert_eq!(kept_on(1), at(1), "it has ended");
        let long = on(0, None).secret("here");
        let sooner = kept(Some(&long), at(1), DAY, issue(1, DAY)).unwrap();
        assert_eq!(sooner.issued, at(1), "none is to live so long");
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
}
