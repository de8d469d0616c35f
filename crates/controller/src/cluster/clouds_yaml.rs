//! A `clouds.yaml` as OpenStack's own clients read it, as far as it says who we are and where the cloud is.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The cloud that is meant where a configuration names none; the name that OpenStack's Terraform provider, Cluster API and
/// others use.
pub const DEFAULT_CLOUD: &str = "openstack";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    clouds: BTreeMap<String, CloudEntry>,
}

/// One entry. Keys that say nothing to us are left alone: the file is written for others too.
#[derive(Clone, Default, Deserialize)]
pub struct CloudEntry {
    /// Who we are.
    #[serde(default)]
    pub auth: Auth,
    /// The region.
    pub region_name: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: Option<String>,
    /// `interface` under its older name.
    pub endpoint_type: Option<String>,
    /// Whether certificates are verified.
    pub verify: Option<bool>,
    /// A PEM file of certification authorities.
    pub cacert: Option<String>,
}

/// `auth`.
#[derive(Clone, Default, Deserialize)]
#[allow(missing_docs)] // Named as in the file.
pub struct Auth {
    pub auth_url: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub user_domain_name: Option<String>,
    pub domain_name: Option<String>,
    pub project_id: Option<String>,
    pub project_name: Option<String>,
    pub application_credential_id: Option<String>,
    pub application_credential_secret: Option<String>,
}

/// Without any content: it may be a password.
impl std::fmt::Debug for CloudEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudEntry").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

/// The entry of this name; what is wrong is told without any value of the file.
pub fn entry(text: &SecretString, cloud: &str) -> Result<CloudEntry, String> {
    let mut file: File = serde_saphyr::from_str(text.expose_secret()).map_err(|error| {
        let text = error.without_snippet().to_string();
        let place =
            text.rsplit_once("line ").map(|(_, place)| place.lines().next().unwrap_or_default().to_owned());
        match place {
            Some(place) => format!("is no clouds.yaml: it cannot be read at line {place}"),
            None => "is no clouds.yaml".to_owned(),
        }
    })?;
    file.clouds.remove(cloud).ok_or_else(|| {
        let names: Vec<String> = file.clouds.keys().cloned().collect();
        format!("has no cloud {cloud:?}; it has: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "clouds:\n  openstack:\n    auth_type: v3applicationcredential\n    auth:\n      auth_url: https://keystone:5000\n      \
                        application_credential_id: id\n      application_credential_secret: hush\n    region_name: RegionOne\n    \
                        interface: internal\n    verify: false\n    identity_api_version: 3\n";

    #[test]
    fn what_others_write_for_openstack_is_understood() {
        let entry = entry(&FILE.into(), DEFAULT_CLOUD).unwrap();
        assert_eq!(entry.auth.application_credential_secret.as_deref(), Some("hush"));
        assert_eq!((entry.region_name.as_deref(), entry.verify), (Some("RegionOne"), Some(false)));
    }

    #[test]
    fn an_error_shows_no_value() {
        assert!(entry(&FILE.into(), "other").unwrap_err().contains("it has: openstack"));
        for text in
            ["clouds: hush-hush", "clouds:\n  openstack:\n    auth: hush-hush\n", "{hush-hush", "hush-hush"]
        {
            let error = entry(&text.into(), "openstack").unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
