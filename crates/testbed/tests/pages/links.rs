//! Every link of a page within the project leads to a file, and to a heading of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::page::{parts, quotes, read, root};

const FOLDERS: [&str; 3] = [".", "docs", "charts/multinic"];

fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|end| end == "md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    pages
}

/// The anchors of a page, as forges make them of headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let (text, _) = parts(page);
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#'));
    headings
        .map(|heading| {
            let kept = heading.trim().to_lowercase();
            let kept = kept.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
            kept.map(|it| if it == ' ' { '-' } else { it }).collect()
        })
        .collect()
}

/// What links lead to: `](…)`.
pub fn links(page: &str) -> Vec<String> {
    let (text, _) = parts(page);
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(link, _)| link.to_owned()).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => format!("{}/{path}", Path::new(&page).parent().unwrap().display()),
            };
            let there = root().join(&target).exists();
            if !there || !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
                wrong.push(format!("{page}: {link}"));
            }
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Folders of the project by which a page names files of it.
const OURS: [&str; 7] =
    ["crates/", "deploy/", "charts/", "docs/", "scripts/", "testbed/", "fuzz/fuzz_targets"];

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        for quote in quotes(&read(&page)) {
            let path = quote.split(['*', ' ', '…', '#']).next().unwrap();
            if OURS.iter().any(|folder| path.starts_with(folder)) {
                // What stands for several is in a folder.
                let path = if path == quote { path } else { path.rsplit_once('/').unwrap().0 };
                if !root().join(path).exists() {
                    wrong.push(format!("{page}: {quote}"));
                }
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_target_of_make_that_a_page_names_is_there() {
    let makefile = read("Makefile");
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        let (_, blocks) = parts(&text);
        for command in quotes(&text).iter().chain(&blocks).flat_map(|text| text.lines()) {
            let Some(target) = command.trim().strip_prefix("make ").and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            assert!(makefile.contains(&format!("\n{target}: ")), "{page}: make {target}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}
