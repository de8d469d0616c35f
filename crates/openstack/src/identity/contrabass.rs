//! Contrabass: which Keystone, and as whom.

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::cipher::Key;
use super::keystone::Login;
use crate::CloudError;
use crate::http::failure::Shown;
use crate::http::{Ask, Http};

/// Looks a provider up.
pub(super) struct Contrabass {
    http: Http,
    url: Url,
    provider: String,
    key: Key,
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
        Ok(Self { http, url, provider: provider.to_owned(), key })
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
        let wrong = |problem: String| CloudError::ContrabassAnswer { url: answer.url.clone(), problem };
        let envelope: Envelope = serde_json::from_slice(&answer.body).map_err(|error| {
            // The parser's own words may quote a value.
            let page =
                if answer.body.trim_ascii_start().starts_with(b"<") { " but an HTML page" } else { "" };
            let (line, column) = (error.line(), error.column());
            wrong(format!("the answer is no provider in JSON{page} (line {line}, column {column})"))
        })?;
        let Envelope { code, message, data } = envelope;
        let provider = data.ok_or_else(|| {
            wrong(format!("no data for provider {:?}: {code:?} {message:?}", self.provider))
        })?;
        let Provider { url, attributes: Attributes { admin_id, admin_pw, domain } } = provider;
        let given = |name: &str, value: Option<String>| {
            value
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
                .ok_or_else(|| wrong(format!("{name} of provider {:?} is missing", self.provider)))
        };
        let url = given("url", url)?;
        let keystone = url.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let keystone = keystone
            .ok_or_else(|| wrong(format!("url of provider {:?} is no http or https URL", self.provider)))?;
        let user = given("attributes.adminId", admin_id)?;
        let domain = given("attributes.domain", domain)?;
        let encrypted = admin_pw
            .ok_or_else(|| wrong(format!("attributes.adminPw of provider {:?} is missing", self.provider)))?;
        let password = self
            .key
            .decrypt(secrecy::ExposeSecret::expose_secret(&encrypted))
            .map_err(|error| CloudError::ContrabassPassword { provider: self.provider.clone(), error })?;
        Ok(Login::password(&keystone, &user, &domain, password))
    }
}
