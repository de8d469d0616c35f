//! Contrabass' passwords: Base64 of an IV and AES-CBC with PKCS#7 padding.
//!
//! Nothing authenticates them, so a wrong key shows as wrong padding, or, once in some hundred times, as a wrong
//! password.

use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};

const BLOCK: usize = 16;

/// An AES key: the bytes of a text, as they are.
#[derive(Debug, Clone)]
pub struct Key(SecretString);

/// Why a text is no AES key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has {0} bytes: an AES key has 16, 24 or 32")]
pub struct KeyError(usize);

/// Why a password can't be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// Not standard Base64 with padding.
    #[error("is not Base64")]
    Base64,
    /// Not an initialisation vector and whole blocks.
    #[error(
        "has {0} bytes under its Base64: 16 of the initialisation vector and a multiple of 16 are needed"
    )]
    Length(usize),
    /// Decrypted to something without PKCS#7 padding.
    #[error("does not decrypt (wrong padding): it was probably encrypted with another key")]
    Padding,
    /// Decrypted to something that is no text.
    #[error("does not decrypt to UTF-8: it was probably encrypted with another key")]
    NotText,
}

impl Key {
    /// Checks the length.
    pub fn new(text: &SecretString) -> Result<Self, KeyError> {
        match text.expose_secret().len() {
            16 | 24 | 32 => Ok(Self(text.clone())),
            length => Err(KeyError(length)),
        }
    }

    /// The password in clear.
    pub fn decrypt(&self, base64: &str) -> Result<SecretString, DecryptError> {
        let mut bytes = STANDARD.decode(base64.trim()).map_err(|_| DecryptError::Base64)?;
        let length = bytes.len();
        if length < 2 * BLOCK || !length.is_multiple_of(BLOCK) {
            return Err(DecryptError::Length(length));
        }
        let (iv, blocks) = bytes.split_at_mut(BLOCK);
        let key = self.0.expose_secret().as_bytes();
        let clear = match key.len() {
            16 => open::<Decryptor<Aes128>>(key, iv, blocks),
            24 => open::<Decryptor<Aes192>>(key, iv, blocks),
            _ => open::<Decryptor<Aes256>>(key, iv, blocks),
        };
        let text = clear.and_then(|clear| {
            std::str::from_utf8(clear).map(SecretString::from).map_err(|_| DecryptError::NotText)
        });
        bytes.zeroize();
        text
    }
}

fn open<'a, C: KeyIvInit + BlockModeDecrypt>(
    key: &[u8],
    iv: &[u8],
    blocks: &'a mut [u8],
) -> Result<&'a [u8], DecryptError> {
    // The lengths were checked, so this can't fail.
    let cipher = C::new_from_slices(key, iv).map_err(|_| DecryptError::Padding)?;
    cipher.decrypt_padded::<Pkcs7>(blocks).map_err(|_| DecryptError::Padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decrypt(key: &str, base64: &str) -> Result<String, DecryptError> {
        let key = Key::new(&SecretString::from(key)).unwrap();
        key.decrypt(base64).map(|clear| clear.expose_secret().to_owned())
    }

    #[test]
    fn measured_vectors_decrypt() {
        for (key, clear, base64) in [
            ("0123456789abcdef", "example-pass", "AAECAwQFBgcICQoLDA0ODyGa5ytJcPLP45pxorwO3Pk="),
            (
                "0123456789abcdef",
                "exactly16bytes!!",
                "AAECAwQFBgcICQoLDA0ODwCSFN/mVr5ij/xlE7dhcmrjA4SGuYlug+i1k5kEICbu",
            ),
            ("0123456789abcdef", "비밀번호", "AAECAwQFBgcICQoLDA0OD99Z1YnXhv2lWR0RkjXermA="),
            ("0123456789abcdef01234567", "example-pass", "AAECAwQFBgcICQoLDA0OD0seXAuLd27G0vx+3WtPdlo="),
            (
                "0123456789abcdef0123456789abcdef",
                "example-pass",
                "AAECAwQFBgcICQoLDA0OD6BxLxguafNjCxMVE3441v0=",
            ),
        ] {
            assert_eq!(decrypt(key, base64).as_deref(), Ok(clear));
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused_before_it_is_used() {
        for length in [0, 15, 17, 31, 33] {
            assert_eq!(Key::new(&SecretString::from("k".repeat(length))).unwrap_err(), KeyError(length));
        }
    }

    #[test]
    fn what_is_no_password_says_what_it_is() {
        let key = "0123456789abcdef";
        assert_eq!(decrypt(key, "not base64!"), Err(DecryptError::Base64));
        assert_eq!(decrypt(key, "AAECAwQFBgcICQoLDA0ODw=="), Err(DecryptError::Length(16)));
        assert_eq!(decrypt(key, &STANDARD.encode([0; 40])), Err(DecryptError::Length(40)));
        let vector = "AAECAwQFBgcICQoLDA0ODyGa5ytJcPLP45pxorwO3Pk=";
        assert_eq!(decrypt("fedcba9876543210", vector), Err(DecryptError::Padding));
    }
}
