//! Who may read: everybody, who shows a token of a file, or whom Kubernetes vouches for.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Config};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::settings::InventoryArgs;
use crate::sinks::kubernetes::kubeconfig::client_of;
use crate::sinks::said::causes;

/// How long Kubernetes' word is taken for: a revoked token works this much longer at most.
const YES: Duration = Duration::from_secs(60);
/// A right that was just given works after this much at most.
const NO: Duration = Duration::from_secs(10);
/// How many users and how many rights are remembered; each is some bytes.
const REMEMBERED: usize = 1024;
/// How many reviews are under way at once: a flood of wrong tokens is not passed on.
const REVIEWS: usize = 4;
/// A longer one is nobody's.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Why readers cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file of tokens.
    #[error("INVENTORY_TOKEN_FILE: {} cannot be read: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds no token.
    #[error("INVENTORY_TOKEN_FILE: {} holds no token", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// No way to Kubernetes.
    #[error("INVENTORY_TOKEN_REVIEW: no way to the API server: {0}")]
    Kubernetes(String),
}

/// Why a reader is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No token, or a wrong one.
    Unauthenticated,
    /// A known user without the right.
    Forbidden {
        /// The user, as Kubernetes names it.
        user: String,
    },
    /// The question could not be decided; the text is for people.
    Undecided(String),
}

/// Who may read.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Option<PathBuf>,
    reviews: Option<Reviews>,
}

impl Access {
    /// What the settings say.
    pub async fn of(settings: &InventoryArgs) -> Result<Self, AccessError> {
        let tokens = settings.inventory_token_file.clone();
        if let Some(path) = &tokens {
            digests(path)?;
        }
        let reviews = if settings.inventory_token_review && settings.inventory_enabled {
            let refused = |error: &dyn std::error::Error| AccessError::Kubernetes(causes(error));
            let config = Config::infer().await.map_err(|error| refused(&error))?;
            let client = client_of(config).map_err(|error| refused(&error))?;
            Some(Reviews::new(client, settings.inventory_token_audiences.clone()))
        } else {
            None
        };
        Ok(Self { tokens, reviews })
    }

    /// Whom Kubernetes vouches for: its word on the token, then on the right to `get` the path.
    pub fn by_review(client: Client, audiences: Vec<String>) -> Self {
        Self { tokens: None, reviews: Some(Reviews::new(client, audiences)) }
    }

    /// Whether this request may read this path.
    pub async fn check(&self, headers: &HeaderMap, path: &str) -> Result<(), Denied> {
        if self.tokens.is_none() && self.reviews.is_none() {
            return Ok(());
        }
        let token = bearer(headers).ok_or(Denied::Unauthenticated)?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(file) = &self.tokens {
            // A small file in memory: reading it each time is how a rotated Secret counts at once.
            match digests(file) {
                Ok(known) if holds(&known, &digest) => return Ok(()),
                Ok(_) => (),
                Err(error) if self.reviews.is_none() => {
                    tracing::error!(%error, "readers of the inventory are turned away");
                    return Err(Denied::Undecided("the file of tokens cannot be read".to_owned()));
                }
                Err(error) => tracing::error!(%error, "only Kubernetes decides who reads the inventory"),
            }
        }
        match &self.reviews {
            Some(reviews) => reviews.check(token, digest, path).await,
            None => Err(Denied::Unauthenticated),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN)
        .then_some(token)
}

/// The digests of the file's tokens: of equal length, so that a comparison takes the same time whatever is compared.
fn digests(path: &Path) -> Result<Vec<[u8; 32]>, AccessError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AccessError::TokenFile { path: path.to_owned(), source })?;
    let tokens = text.lines().map(str::trim).filter(|token| !token.is_empty());
    let digests: Vec<[u8; 32]> = tokens.map(|token| Sha256::digest(token).into()).collect();
    if digests.is_empty() { Err(AccessError::NoToken { path: path.to_owned() }) } else { Ok(digests) }
}

fn holds(known: &[[u8; 32]], digest: &[u8; 32]) -> bool {
    // Every one is compared, whichever is the right one.
    known.iter().fold(subtle::Choice::from(0), |found, one| found | one.ct_eq(digest)).into()
}

/// Whose token this is, by the API server's word; none where it is nobody's, or for none of these audiences.
pub(crate) async fn user_of(
    client: &Client,
    token: &str,
    audiences: &[String],
) -> Result<Option<UserInfo>, kube::Error> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
        },
        ..TokenReview::default()
    };
    let reviews = Api::<TokenReview>::all(client.clone());
    let status = reviews.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
    // Without the audience in its answer, the API server did not look at it.
    let heard = |given: &Vec<String>| audiences.iter().any(|audience| given.contains(audience));
    let audience = audiences.is_empty() || status.audiences.as_ref().is_some_and(heard);
    Ok(status.user.filter(|_| status.authenticated == Some(true) && audience))
}

/// Kubernetes' word, remembered for a moment: whose token it is, and what this user may read. Tokens are remembered by
/// their digests alone.
struct Reviews {
    client: Client,
    audiences: Vec<String>,
    /// By the token.
    users: Remembered<Option<Arc<UserInfo>>>,
    /// By the user and the path.
    rights: Remembered<bool>,
    under_way: Semaphore,
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviews").field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

impl Reviews {
    fn new(client: Client, audiences: Vec<String>) -> Self {
        let audiences = audiences.into_iter().filter(|audience| !audience.is_empty()).collect();
        let (users, rights) = (Remembered::default(), Remembered::default());
        Self { client, audiences, users, rights, under_way: Semaphore::new(REVIEWS) }
    }

    async fn check(&self, token: &str, digest: Digested, path: &str) -> Result<(), Denied> {
        if let Some(verdict) = self.remembered(&digest, path) {
            return verdict;
        }
        let undecided = |what: &str| Denied::Undecided(format!("{what} failed; see the controller's log"));
        let _turn = self.under_way.acquire().await.map_err(|_| undecided("the review"))?;
        // Whoever waited may find the answer that another request got meanwhile.
        if let Some(verdict) = self.remembered(&digest, path) {
            return verdict;
        }
        self.review(token, digest, path).await.map_err(|error| {
            // The error of a request names the request, whose body with the token it does not hold.
            tracing::error!(%error, "Kubernetes did not say who reads the inventory");
            undecided("asking Kubernetes about the token")
        })?
    }

    fn remembered(&self, digest: &Digested, path: &str) -> Option<Result<(), Denied>> {
        let Some(user) = self.users.get(digest)? else { return Some(Err(Denied::Unauthenticated)) };
        let allowed = self.rights.get(&right(&user, path).ok()?)?;
        Some(verdict(&user, allowed))
    }

    async fn review(
        &self,
        token: &str,
        digest: Digested,
        path: &str,
    ) -> Result<Result<(), Denied>, kube::Error> {
        let user = match self.users.get(&digest) {
            Some(user) => user,
            None => {
                let user = user_of(&self.client, token, &self.audiences).await?.map(Arc::new);
                self.users.keep(digest, user.clone(), if user.is_some() { YES } else { NO });
                user
            }
        };
        let Some(user) = user else { return Ok(Err(Denied::Unauthenticated)) };
        let right = right(&user, path).map_err(kube::Error::SerdeError)?;
        let allowed = self.may_get(&user, path).await?;
        self.rights.keep(right, allowed, if allowed { YES } else { NO });
        Ok(verdict(&user, allowed))
    }

    async fn may_get(&self, user: &UserInfo, path: &str) -> Result<bool, kube::Error> {
        let UserInfo { username, groups, uid, extra } = user.clone();
        let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: username,
                groups,
                uid,
                extra,
                non_resource_attributes: Some(attributes),
                resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

fn verdict(user: &UserInfo, allowed: bool) -> Result<(), Denied> {
    if allowed { Ok(()) } else { Err(Denied::Forbidden { user: user.username.clone().unwrap_or_default() }) }
}

/// What the right to read a path is remembered by: everything that it may depend on, and of one size however long the
/// path is that somebody asks for.
fn right(user: &UserInfo, path: &str) -> Result<Digested, serde_json::Error> {
    let mut hasher = Sha256::new_with_prefix(serde_json::to_vec(user)?);
    hasher.update(path);
    Ok(hasher.finalize().into())
}

/// SHA-256.
type Digested = [u8; 32];

/// Answers, each for its time, and only so many.
#[derive(Debug)]
struct Remembered<T>(Mutex<HashMap<Digested, (Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Remembered<T> {
    fn get(&self, key: &Digested) -> Option<T> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| answer.clone())
    }

    fn keep(&self, key: Digested, answer: T, time: Duration) {
        let now = Instant::now();
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (until, _)| *until > now);
        }
        // A no is remembered for less time: a flood of wrong tokens drives no reader out.
        if answers.len() >= REMEMBERED
            && let Some(next) = answers.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key)
        {
            answers.remove(&next);
        }
        answers.insert(key, (now + time, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_wrong_tokens_is_bounded_and_drives_no_reader_out() {
        let remembered = Remembered::default();
        remembered.keep([255; 32], true, YES);
        for number in 0..3 * REMEMBERED as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            remembered.keep(key, false, NO);
        }
        assert_eq!(remembered.0.lock().unwrap().len(), REMEMBERED);
        assert_eq!(remembered.get(&[255; 32]), Some(true));
    }

    #[test]
    fn rights_are_told_apart_by_everything_that_kubernetes_knows_of_a_user() {
        let user = UserInfo { username: Some("a".to_owned()), ..UserInfo::default() };
        let grouped = UserInfo { groups: Some(vec!["b".to_owned()]), ..user.clone() };
        let rights = [(&user, "/1"), (&user, "/2"), (&grouped, "/1")];
        let rights: Vec<_> = rights.map(|(user, path)| right(user, path).unwrap()).into();
        assert!(rights[0] != rights[1] && rights[0] != rights[2] && rights[1] != rights[2]);
    }
}
