//! Keystone: credentials in, token and catalog out.

use std::time::Duration;

use jiff::Timestamp;
use multinic_core::ProjectId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::catalog::{Catalog, Service};
use crate::CloudError;
use crate::http::failure::Shown;
use crate::http::{Answer, Ask, Http};

/// A token is renewed this long before its end: longer than any one read takes.
const MARGIN: Duration = Duration::from_secs(120);

/// How long a token is used whose end can't be read. Keystone's default is an hour.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(600);

/// Whom we say we are, and to whom.
pub(crate) struct Login {
    url: Url,
    who: Who,
    secret: SecretString,
}

#[derive(PartialEq)]
enum Who {
    User { name: String, domain: String },
    Application { id: String },
}

/// What Keystone gives.
pub(crate) struct Grant {
    pub token: SecretString,
    pub project: ProjectId,
    pub catalog: Catalog,
    /// How long to use it.
    pub lifetime: Duration,
}

#[derive(Deserialize)]
struct Envelope {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    issued_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    project: Option<Scope>,
    #[serde(default)]
    catalog: Vec<Service>,
}

#[derive(Deserialize)]
struct Scope {
    id: ProjectId,
}

impl Login {
    pub fn password(keystone: &Url, name: &str, domain: &str, password: SecretString) -> Self {
        let who = Who::User { name: name.to_owned(), domain: domain.to_owned() };
        Self { url: tokens(keystone), who, secret: password }
    }

    pub fn application(keystone: &Url, id: &str, secret: SecretString) -> Self {
        Self { url: tokens(keystone), who: Who::Application { id: id.to_owned() }, secret }
    }

    /// Whether the two would be answered alike.
    pub fn same(&self, other: &Self) -> bool {
        self.url == other.url
            && self.who == other.who
            && self.secret.expose_secret() == other.secret.expose_secret()
    }

    fn body(&self, project: Option<&ProjectId>) -> SecretString {
        let secret = self.secret.expose_secret();
        let body = match &self.who {
            Who::User { name, domain } => json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {
                    "name": name, "domain": {"name": domain}, "password": secret,
                }}},
                "scope": {"project": {"id": project}},
            }}),
            // It is bound to its project; Keystone refuses a scope beside it.
            Who::Application { id } => json!({"auth": {"identity": {
                "methods": ["application_credential"],
                "application_credential": {"id": id, "secret": secret},
            }}}),
        };
        body.to_string().into()
    }

    fn described(&self, project: Option<&ProjectId>) -> String {
        match (&self.who, project) {
            (Who::User { name, domain }, Some(project)) => {
                format!("user {name:?} of domain {domain:?} for project {project}")
            }
            (Who::User { name, domain }, None) => format!("user {name:?} of domain {domain:?}"),
            (Who::Application { id }, _) => format!("application credential {id:?}"),
        }
    }
}

/// Asks for a token scoped to `project`.
pub(super) async fn authenticate(
    http: &Http,
    login: &Login,
    project: Option<&ProjectId>,
) -> Result<Grant, CloudError> {
    let body = login.body(project);
    let ask = Ask {
        operation: "keystone.token",
        url: login.url.clone(),
        token: None,
        body: Some(&body),
        secrets: &[&login.secret],
    };
    let answer = http.send(&ask).await.map_err(|error| {
        if error.status() == Some(401) {
            let url = Shown(&login.url).to_string();
            CloudError::KeystoneRefused { url, who: login.described(project) }
        } else {
            CloudError::Keystone(error)
        }
    })?;
    grant(&answer, &login.secret, project)
}

/// What an answer grants. It is not quoted with the secret that it answers.
pub(crate) fn grant(
    answer: &Answer,
    secret: &SecretString,
    project: Option<&ProjectId>,
) -> Result<Grant, CloudError> {
    let wrong = |reason: &str| CloudError::Keystone(answer.malformed("a scoped token", reason, &[secret]));
    let Envelope { token: Token { issued_at, expires_at, project: scope, catalog } } =
        serde_json::from_slice(&answer.body).map_err(|error| wrong(&error.to_string()))?;
    let token = answer.headers.get("x-subject-token").and_then(|value| value.to_str().ok());
    let token = token.ok_or_else(|| wrong("no header X-Subject-Token"))?;
    let scope = scope.ok_or_else(|| wrong("no project"))?.id;
    if let Some(wanted) = project.filter(|wanted| **wanted != scope) {
        return Err(CloudError::WrongProject { wanted: wanted.to_string(), scope: scope.to_string() });
    }
    Ok(Grant {
        token: token.into(),
        project: scope,
        catalog: Catalog::new(catalog),
        lifetime: lifetime(issued_at, expires_at),
    })
}

/// How long to use a token. Only Keystone's own two times are compared: our clock may be wrong.
fn lifetime(issued: Option<Timestamp>, expires: Option<Timestamp>) -> Duration {
    let (Some(issued), Some(expires)) = (issued, expires) else {
        return UNKNOWN_LIFETIME;
    };
    let whole = Duration::try_from(expires.duration_since(issued)).unwrap_or_default();
    whole - MARGIN.min(whole / 2)
}

/// Where tokens are asked for. `/v3` may be there already.
fn tokens(keystone: &Url) -> Url {
    let mut url = keystone.clone();
    let versioned = url.path().trim_end_matches('/').ends_with("/v3");
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(if versioned {
            &["auth", "tokens"][..]
        } else {
            &["v3", "auth", "tokens"]
        });
    }
    url.set_query(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_url_once() {
        for (given, wanted) in [
            ("http://ks:5000", "http://ks:5000/v3/auth/tokens"),
            ("http://ks:5000/", "http://ks:5000/v3/auth/tokens"),
            ("http://ks:5000/v3", "http://ks:5000/v3/auth/tokens"),
            ("http://ks:5000/v3/", "http://ks:5000/v3/auth/tokens"),
            ("https://ks/identity", "https://ks/identity/v3/auth/tokens"),
            ("https://ks/identity/v3/", "https://ks/identity/v3/auth/tokens"),
        ] {
            assert_eq!(tokens(&given.parse().unwrap()).as_str(), wanted);
        }
    }

    #[test]
    fn a_token_is_renewed_before_its_end_whatever_our_clock_says() {
        let at = |text: &str| Some(text.parse().unwrap());
        let hour = lifetime(at("1999-01-01T00:00:00Z"), at("1999-01-01T01:00:00.000000Z"));
        assert_eq!(hour, Duration::from_secs(3600 - 120));
        assert_eq!(lifetime(at("1999-01-01T00:00:00Z"), at("1999-01-01T00:01:00Z")).as_secs(), 30);
        assert_eq!(lifetime(at("1999-01-01T00:00:00Z"), at("1998-01-01T00:00:00Z")).as_secs(), 0);
        assert_eq!(lifetime(None, None), UNKNOWN_LIFETIME);
    }
}
