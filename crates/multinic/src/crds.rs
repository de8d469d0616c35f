//! `multinic crds`: the definitions of our resources.

use std::io::{self, Write as _};

use anyhow::Context as _;
use multinic_api::definitions;

/// Prints them, each as a YAML document.
pub fn run() -> anyhow::Result<()> {
    let mut text = String::new();
    for document in definitions::documents()? {
        text.push_str(&document.yaml);
    }
    io::stdout().write_all(text.as_bytes()).context("cannot print the definitions")
}
