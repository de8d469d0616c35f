//! Contrabass: which Keystone, and as whom.

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::cipher::Key;
use super::keystone::Login;
use crate::CloudError;
use crate::http::failure::Shown;
use crate::http::{Answer, Ask, Http};

/// Looks a provider up.
pub(super) struct Contrabass {
    http: Http,
    url: Url,
    provider: String,
    key: Key,
    /// As of the last look.
    broker: Mutex<Option<Arc<Broker>>>,
}

/// The message broker that a provider has.
#[derive(Debug)]
pub struct Broker {
    /// Its URLs, at least one.
    pub urls: Vec<String>,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: SecretString,
}

/// What is read of the broker: apart from the rest, since nothing else needs it to be right.
#[derive(Deserialize)]
struct BrokerEnvelope {
    data: BrokerData,
}

#[derive(Deserialize)]
struct BrokerData {
    attributes: BrokerAttributes,
}

#[derive(Deserialize)]
struct BrokerAttributes {
    #[serde(rename = "rabbitMQId")]
    user: String,
    #[serde(rename = "rabbitMQPw")]
    password: SecretString,
    #[serde(rename = "rabbitMQUrls")]
    urls: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "returnCode", default)]
    code: Option<String>,
    #[serde(rename = "returnMessage", default)]
    message: Option<String>,
    #[serde(default)]
    data: Option<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    attributes: Attributes,
}

/// What is read of the attributes. The message broker's are there too, and a broken one of those stops nothing.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    #[serde(default)]
    admin_id: Option<String>,
    #[serde(default)]
    admin_pw: Option<SecretString>,
    #[serde(default)]
    domain: Option<String>,
}

impl Contrabass {
    pub fn new(base: &Url, provider: &str, key: &SecretString, http: Http) -> Result<Self, CloudError> {
        let key = Key::new(key).map_err(CloudError::ContrabassKey)?;
        let mut url = base.clone();
        let escapable = !matches!(provider, "." | "..");
        match url.path_segments_mut() {
            Ok(mut path) if escapable => {
                path.pop_if_empty().extend(["v1", "contrabass", "admin", "infra", "provider", provider]);
            }
            // A dot segment can't be escaped: it would ask for the list instead of a provider.
            _ => {
                let problem = format!("there can be no provider {provider:?} there");
                return Err(CloudError::ContrabassAnswer { url: Shown(base).to_string(), problem });
            }
        }
        Ok(Self { http, url, provider: provider.to_owned(), key, broker: Mutex::default() })
    }

    /// The message broker, if the last answer had everything of one.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read_broker(&self, body: &[u8]) -> Option<Broker> {
        let BrokerEnvelope { data: BrokerData { attributes } } = serde_json::from_slice(body).ok()?;
        let BrokerAttributes { user, password, urls } = attributes;
        let urls: Vec<String> =
            urls.iter().map(|url| url.trim()).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        let user = user.trim().to_owned();
        let encrypted = secrecy::ExposeSecret::expose_secret(&password);
        if urls.is_empty() || user.is_empty() || encrypted.is_empty() {
            return None;
        }
        match self.key.decrypt(encrypted) {
            Ok(password) => Some(Broker { urls, user, password }),
            Err(error) => {
                tracing::warn!(provider = %self.provider, error = %error, "the broker's password cannot be decrypted");
                None
            }
        }
    }

    /// Asks for the provider and decrypts the administrator's password.
    pub async fn login(&self) -> Result<Login, CloudError> {
        let ask = Ask {
            operation: "contrabass.provider",
            url: self.url.clone(),
            token: None,
            body: None,
            secrets: &[],
        };
        let answer = self.http.send(&ask).await.map_err(CloudError::Contrabass)?;
        let login = login(&answer, &self.provider, &self.key)?;
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) =
            self.read_broker(&answer.body).map(Arc::new);
        Ok(login)
    }
}

/// The credentials in the description of a provider.
pub(crate) fn login(answer: &Answer, provider: &str, key: &Key) -> Result<Login, CloudError> {
    let wrong = |problem: String| CloudError::ContrabassAnswer { url: answer.url.clone(), problem };
    let envelope: Envelope = serde_json::from_slice(&answer.body).map_err(|error| {
        // The parser's own words may quote a value.
        let page = if answer.body.trim_ascii_start().starts_with(b"<") { " but an HTML page" } else { "" };
        let (line, column) = (error.line(), error.column());
        wrong(format!("the answer is no provider in JSON{page} (line {line}, column {column})"))
    })?;
    let Envelope { code, message, data } = envelope;
    let data =
        data.ok_or_else(|| wrong(format!("no data for provider {provider:?}: {code:?} {message:?}")))?;
    let Provider { url, attributes: Attributes { admin_id, admin_pw, domain } } = data;
    let given = |name: &str, value: Option<String>| {
        value
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .ok_or_else(|| wrong(format!("{name} of provider {provider:?} is missing")))
    };
    let url = given("url", url)?;
    let keystone = url.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let keystone =
        keystone.ok_or_else(|| wrong(format!("url of provider {provider:?} is no http or https URL")))?;
    let user = given("attributes.adminId", admin_id)?;
    let domain = given("attributes.domain", domain)?;
    let encrypted =
        admin_pw.ok_or_else(|| wrong(format!("attributes.adminPw of provider {provider:?} is missing")))?;
    let password = key
        .decrypt(secrecy::ExposeSecret::expose_secret(&encrypted))
        .map_err(|error| CloudError::ContrabassPassword { provider: provider.to_owned(), error })?;
    Ok(Login::password(&keystone, &user, &domain, password))
}
