//! A page in its parts.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A page by its path in the project.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A page without its blocks of commands and examples, and those blocks.
pub fn parts(page: &str) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut blocks: Vec<String> = Vec::new();
    let mut within = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            within = !within;
            if within {
                blocks.push(String::new());
            }
        }
        let part = if within { blocks.last_mut().unwrap() } else { &mut text };
        *part += &format!("{line}\n");
    }
    assert!(!within, "a block does not end");
    (text, blocks)
}

/// What a page has in backticks, outside of blocks.
pub fn quotes(page: &str) -> Vec<String> {
    let text = parts(page).0.replace("```", "").replace('\n', " ");
    text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}
