//! The Secret `rabbitmq-<configuration>` with what Contrabass says of the provider's message broker, for programs of
//! others. Nothing here uses it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client, Resource, ResourceExt};
use multinic_api::OpenstackConfig;
use multinic_openstack::Broker;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::report::MANAGER;

/// The longest name of an object.
const MOST: usize = 253;

/// The Secret's name.
pub fn name(config: &str) -> String {
    format!("rabbitmq-{config}").chars().take(MOST).collect()
}

/// Tells one content of the Secret from another, without being one.
pub fn digest(broker: &Broker) -> [u8; 32] {
    let Broker { urls, user, password } = broker;
    let mut sha = Sha256::new();
    for part in urls.iter().chain([user]).map(String::as_str).chain([password.expose_secret()]) {
        sha.update(part.len().to_le_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

/// Writes the Secret, also over what somebody made of it. One of the same name that is somebody else's is left alone: that is
/// an error.
pub async fn write(client: &Client, config: &DynamicObject, broker: &Broker) -> Result<(), kube::Error> {
    let Broker { urls, user, password } = broker;
    let name = name(&config.name_any());
    let data = [
        ("RABBITMQ_URLS", urls.join(",")),
        ("RABBITMQ_USER", user.clone()),
        ("RABBITMQ_PASSWORD", password.expose_secret().to_owned()),
    ];
    let owner = config.controller_owner_ref(&ApiResource::erase::<OpenstackConfig>(&()));
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(owner.into_iter().collect()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        // Not as text: that has no owner by which the API server could tell that it is somebody else's.
        data: Some(BTreeMap::from(data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))))),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace().unwrap_or_default());
    let apply = PatchParams::apply(MANAGER);
    match secrets.patch(&name, &apply, &Patch::Apply(&secret)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = secrets.get(&name).await?;
            let owners = there.metadata.owner_references.unwrap_or_default();
            let is_ours =
                owners.iter().any(|it| it.controller == Some(true) && Some(&it.uid) == config.uid().as_ref());
            if !is_ours {
                return Err(kube::Error::Api(status));
            }
            // Somebody edited it.
            secrets.patch(&name, &apply.force(), &Patch::Apply(&secret)).await.map(drop)
        }
        written => written.map(drop),
    }
}
