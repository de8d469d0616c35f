//! Who may post: everybody, or who shows a token of a file. Who must show a certificate is the business of TLS.

use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::settings::StartError;

/// Who may post.
#[derive(Debug)]
pub struct Callers {
    tokens: Option<PathBuf>,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No token, or a wrong one.
    Unauthenticated,
    /// The tokens cannot be read at the moment.
    Undecided,
}

impl Callers {
    /// Reads the file once to see that it can be used.
    ///
    /// # Errors
    /// Where it cannot be read, or holds no token.
    pub fn open(tokens: Option<PathBuf>) -> Result<Self, StartError> {
        if let Some(path) = &tokens {
            digests(path)
                .map_err(|problem| StartError::Setting { setting: "VIOLA_AUTH_TOKENS_FILE", problem })?;
        }
        Ok(Self { tokens })
    }

    /// Whether a token is asked for.
    pub fn are_asked(&self) -> bool {
        self.tokens.is_some()
    }

    /// Whether a request with these headers may post.
    ///
    /// # Errors
    /// Where it may not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(path) = &self.tokens else { return Ok(()) };
        // A small file in memory: reading it each time is how a rotated Secret counts at once.
        let known = digests(path).map_err(|problem| {
            tracing::error!(problem, "VIOLA_AUTH_TOKENS_FILE: every caller is turned away");
            Denied::Undecided
        })?;
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or(Denied::Unauthenticated)?;
        let digest = digest(token.trim());
        // Every one is compared, whichever is the right one, and digests of one length take one time.
        let found = known.iter().fold(subtle::Choice::from(0), |found, one| found | one.ct_eq(&digest));
        if scheme.eq_ignore_ascii_case("bearer") && bool::from(found) {
            Ok(())
        } else {
            Err(Denied::Unauthenticated)
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn digests(path: &Path) -> Result<Vec<[u8; 32]>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let digests: Vec<_> = lines.map(digest).collect();
    if digests.is_empty() { Err(format!("{}: holds no token", path.display())) } else { Ok(digests) }
}
