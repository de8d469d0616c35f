//! Secrets, each read by its name when it is needed: this takes the right to `get` Secrets and no other. One that was
//! changed is found when its configuration's cloud is read the next time.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use multinic_core::config::FieldError;
use secrecy::SecretString;

use multinic_core::brief::short;

/// Secrets of one namespace, each asked for once.
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
    read: BTreeMap<String, Option<BTreeMap<String, ByteString>>>,
    trouble: bool,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Those of a namespace; none is read yet.
    pub fn new(client: Client, namespace: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, namespace: namespace.to_owned(), read: BTreeMap::new(), trouble: false }
    }

    /// Whether one could not be read for a reason that is not its own: the API server's, or a right that is missing.
    pub fn in_trouble(&self) -> bool {
        self.trouble
    }

    /// The value under a key, as text. What is missing is the error of the field that names it.
    pub async fn text(&mut self, field: &str, name: &str, key: &str) -> Result<SecretString, FieldError> {
        let wrong = |problem: String| FieldError { field: field.to_owned(), problem };
        let place = format!("{}/{name}", self.namespace);
        let Some(data) = self.data(field, name).await? else {
            return Err(wrong(format!("there is no Secret {place}; make it, with the key {key:?}")));
        };
        let Some(value) = data.get(key) else {
            return Err(wrong(format!("Secret {place} has no key {key:?}")));
        };
        let text = std::str::from_utf8(&value.0)
            .map_err(|_| wrong(format!("the key {key:?} of Secret {place} is no text in UTF-8")))?;
        if text.trim().is_empty() {
            return Err(wrong(format!("the key {key:?} of Secret {place} is empty")));
        }
        Ok(text.into())
    }

    /// The same of a Secret that need not be there.
    pub async fn optional(
        &mut self,
        field: &str,
        name: &str,
        key: &str,
    ) -> Result<Option<SecretString>, FieldError> {
        match self.data(field, name).await? {
            Some(data) if data.contains_key(key) => self.text(field, name, key).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn data(
        &mut self,
        field: &str,
        name: &str,
    ) -> Result<Option<&BTreeMap<String, ByteString>>, FieldError> {
        if !self.read.contains_key(name) {
            let secret = self.api.get_opt(name).await.map_err(|error| {
                self.trouble = true;
                let why = match &error {
                    kube::Error::Api(status) if status.code == 403 => {
                        "the controller may not: its ServiceAccount needs the right to get it".to_owned()
                    }
                    _ => short(&error),
                };
                let problem = format!("cannot read Secret {}/{name}: {why}", self.namespace);
                FieldError { field: field.to_owned(), problem }
            })?;
            self.read.insert(name.to_owned(), secret.map(|secret| secret.data.unwrap_or_default()));
        }
        Ok(self.read.get(name).and_then(Option::as_ref))
    }
}
