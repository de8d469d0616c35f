//! Contrabass: providers with encrypted passwords.

use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use serde_json::json;

use super::answer::Answer;
use super::world::World;

/// A cloud as Contrabass knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Keystone, with or without `/v3`.
    pub keystone: String,
    /// The administrator.
    pub admin: String,
    /// The administrator's domain.
    pub domain: String,
    /// The administrator's password as Contrabass gives it out; see [`encrypt`].
    pub encrypted_password: String,
    /// The message broker's password as Contrabass gives it out. Nobody needs it to be right.
    pub encrypted_broker_password: String,
}

/// A password as Contrabass gives it out: Base64 of IV and AES-CBC with PKCS#7 padding. None if the key is not one of
/// 16, 24 or 32 bytes.
pub fn encrypt(key: &str, password: &str, iv: [u8; 16]) -> Option<String> {
    let key = key.as_bytes();
    let sealed = match key.len() {
        16 => seal::<Encryptor<Aes128>>(key, iv, password),
        24 => seal::<Encryptor<Aes192>>(key, iv, password),
        32 => seal::<Encryptor<Aes256>>(key, iv, password),
        _ => None,
    }?;
    Some(STANDARD.encode([iv.as_slice(), &sealed].concat()))
}

fn seal<C: KeyIvInit + BlockModeEncrypt>(key: &[u8], iv: [u8; 16], password: &str) -> Option<Vec<u8>> {
    Some(C::new_from_slices(key, &iv).ok()?.encrypt_padded_vec::<Pkcs7>(password.as_bytes()))
}

impl Provider {
    pub(super) fn to_json(&self, id: &str) -> serde_json::Value {
        let Self { keystone, admin, domain, encrypted_password, encrypted_broker_password } = self;
        json!({
            "returnCode": "200",
            "returnMessage": "COMMON_OK",
            "data": {"uuid": id, "name": id, "url": keystone, "attributes": {
                "adminId": admin,
                "adminPw": encrypted_password,
                "domain": domain,
                "rabbitMQId": "openstack",
                "rabbitMQPw": encrypted_broker_password,
                "rabbitMQUrls": ["amqp://127.0.0.1:5672"],
            }},
        })
    }
}

/// Answers what is below `/v1/contrabass`.
pub(super) fn answer(world: &World, path: &[&str]) -> Answer {
    let ["admin", "infra", "provider", id] = path else {
        return Answer::with(404, json!({"returnCode": "404", "returnMessage": "NOT_FOUND", "data": null}));
    };
    match world.providers.get(*id) {
        Some(provider) => Answer::ok(provider.clone()),
        None => Answer::with(404, json!({"returnCode": "404", "returnMessage": "NOT_FOUND", "data": null})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_encrypted_as_contrabass_does_it() {
        let iv = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        for (key, base64) in [
            ("0123456789abcdef", "AAECAwQFBgcICQoLDA0ODyGa5ytJcPLP45pxorwO3Pk="),
            ("0123456789abcdef01234567", "AAECAwQFBgcICQoLDA0OD0seXAuLd27G0vx+3WtPdlo="),
            ("0123456789abcdef0123456789abcdef", "AAECAwQFBgcICQoLDA0OD6BxLxguafNjCxMVE3441v0="),
        ] {
            assert_eq!(encrypt(key, "example-pass", iv).as_deref(), Some(base64));
        }
        assert_eq!(encrypt("short", "x", iv), None);
    }
}
