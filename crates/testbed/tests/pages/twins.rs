//! A page and its Korean twin say the same: neither changes without the other.

use std::fs;

use crate::links::links;
use crate::page::{parts, quotes, read, root};

/// Pages that have a twin, `….ko.md` beside them.
const PAGES: [&str; 8] = [
    "README",
    "CONTRIBUTING",
    "docs/architecture",
    "docs/backup",
    "docs/install",
    "docs/operations",
    "docs/security",
    "docs/troubleshooting",
];

/// Without comments, which are translated.
fn commands(block: &str) -> String {
    let without = |line: &str| match line.starts_with('#') {
        true => String::new(),
        false => line.split(" #").next().unwrap().trim_end().to_owned(),
    };
    block.lines().map(without).collect::<Vec<_>>().join("\n")
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

/// What two twins have in common between two headings.
#[derive(Debug, PartialEq)]
struct Section {
    level: usize,
    blocks: Vec<String>,
    /// The number of cells of each row.
    rows: Vec<usize>,
    quotes: Vec<String>,
    links: Vec<String>,
}

impl Section {
    /// Of a text that begins with its heading.
    fn of(text: &str, page: &str) -> Self {
        let (prose, blocks) = parts(text);
        let rows = prose.lines().filter(|line| line.starts_with('|'));
        // Twins link to each other, and to other pages' twins. Anchors are headings, which are translated.
        let links =
            links(text).into_iter().map(|link| link.split('#').next().unwrap().replace(".ko.md", ".md"));
        Self {
            level: text.chars().take_while(|letter| *letter == '#').count(),
            blocks: blocks.iter().map(|block| commands(block)).collect(),
            rows: rows.map(|row| row.replace("\\|", "").matches('|').count()).collect(),
            quotes: sorted(quotes(text)),
            links: sorted(links.filter(|link| !page.ends_with(link.as_str())).collect()),
        }
    }
}

/// A page cut before each heading.
fn sections(page: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    let mut within = false;
    for line in page.lines() {
        within ^= line.trim_start().starts_with("```");
        if !within && line.starts_with('#') {
            sections.push(String::new());
        }
        *sections.last_mut().unwrap() += &format!("{line}\n");
    }
    sections
}

#[test]
fn twins_have_the_same_headings_commands_rows_names_and_links() {
    let mut wrong = Vec::new();
    for page in PAGES {
        let [english, korean] = ["md", "ko.md"].map(|end| sections(&read(&format!("{page}.{end}"))));
        if english.len() != korean.len() {
            wrong.push(format!("{page}: {} headings, and {} in Korean", english.len() - 1, korean.len() - 1));
            continue;
        }
        for (english, korean) in english.iter().zip(&korean) {
            let [ours, theirs] = [english, korean].map(|text| Section::of(text, &format!("{page}.md")));
            if ours != theirs {
                let headings =
                    [english, korean].map(|text| text.lines().next().unwrap_or_default().to_owned());
                wrong.push(format!("{page}, {headings:?}: {}", difference(&ours, &theirs)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What one has and the other has not, for people.
fn difference(english: &Section, korean: &Section) -> String {
    let mut texts = Vec::new();
    if (english.level, &english.rows) != (korean.level, &korean.rows) {
        let of = |section: &Section| format!("level {}, rows {:?}", section.level, section.rows);
        texts.push(format!("{}, and {} in Korean", of(english), of(korean)));
    }
    let lists = [
        (&english.blocks, &korean.blocks),
        (&english.quotes, &korean.quotes),
        (&english.links, &korean.links),
    ];
    for (english, korean) in lists {
        let (mut only, mut surplus) = (english.clone(), Vec::new());
        for one in korean {
            match only.iter().position(|other| other == one) {
                Some(at) => drop(only.remove(at)),
                None => surplus.push(one),
            }
        }
        if !only.is_empty() || !surplus.is_empty() {
            texts.push(format!("only in English {only:?}, only in Korean {surplus:?}"));
        }
    }
    texts.join("; ")
}

#[test]
fn every_twin_is_looked_at() {
    let mut found = Vec::new();
    for folder in ["", "docs/"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            found.extend(name.strip_suffix(".ko.md").map(|name| format!("{folder}{name}")));
        }
    }
    found.sort();
    let mut looked_at = PAGES.map(ToOwned::to_owned).to_vec();
    looked_at.sort();
    assert_eq!(found, looked_at);
}
