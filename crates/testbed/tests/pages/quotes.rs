//! What docs/troubleshooting.md quotes is what the programs say: conditions, reasons, messages, metrics, settings, keys.

use std::fs;
use std::path::Path;

use crate::page::{parts, quotes, read, root};

const PAGE: &str = "docs/troubleshooting.md";

/// What others say: Kubernetes, its pods' states, Helm, OpenStack, the kernel.
const OF_OTHERS: [&str; 15] = [
    "FailedMount",
    "Read-only file system",
    "READY",
    "SYNCED",
    "STATE",
    "additional properties",
    "denied the request",
    "ens5",
    "exists and cannot be imported into the current release",
    "failed calling webhook",
    "forbidden: User",
    "hostPath type check failed",
    "is invalid: spec.",
    "ValidatingAdmissionPolicy",
    "violates PodSecurity",
];

/// Commands, which the page's reader runs.
const PROGRAMS: [&str; 9] =
    ["crictl", "helm", "ip", "kubectl", "multinic", "multinic-agent", "openstack", "systemctl", "udevadm"];

/// Everything that the programs are made of, without comments, in one line.
fn sources() -> String {
    let mut text = String::new();
    for folder in ["crates", "deploy", "charts/multinic", "scripts"] {
        collect(&root().join(folder), &mut text);
    }
    text
}

fn collect(path: &Path, text: &mut String) {
    let name = path.file_name().unwrap().to_str().unwrap();
    if path.is_dir() {
        if name != "tests" {
            fs::read_dir(path).unwrap().for_each(|entry| collect(&entry.unwrap().path(), text));
        }
        return;
    }
    if ["rs", "yaml", "tpl", "sh"].iter().any(|end| path.extension().is_some_and(|it| it == *end)) {
        for line in fs::read_to_string(path).unwrap().lines().map(str::trim) {
            if !line.starts_with("//") && !line.starts_with("# ") {
                // A text that goes on in the next line.
                *text += line.strip_suffix('\\').unwrap_or(line);
                *text += if line.ends_with('\\') { "" } else { " " };
            }
        }
    }
}

/// Whether the text is there, and not as a part of a longer word.
fn has(sources: &str, text: &str) -> bool {
    let is_word = |letter: Option<char>| letter.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let goes_on =
        |left: &str, right: &str| is_word(left.chars().next_back()) && is_word(right.chars().next());
    sources
        .match_indices(text)
        .any(|(at, _)| !goes_on(&sources[..at], text) && !goes_on(text, &sources[at + text.len()..]))
}

/// How the sources may write what the page quotes.
fn forms(quote: &str) -> Vec<String> {
    let metric = quote.strip_prefix("multinic_").unwrap_or(quote);
    let flag = quote.trim_start_matches("--").replace('-', "_").to_lowercase();
    let mut forms = vec![quote.to_owned(), flag];
    for end in ["_total", "_seconds"] {
        forms.extend([quote, metric].map(|name| name.strip_suffix(end).unwrap_or(name).to_owned()));
    }
    // A setting with its value.
    forms.extend(quote.split_once('=').map(|(name, _)| name.to_owned()));
    // Keys and fields: spec.protection.allowedOperations. Files: /var/lib/multinic/journal.
    forms.extend(quote.rsplit(['.', '/']).next().map(ToOwned::to_owned));
    forms
}

fn is_known(sources: &str, quote: &str) -> bool {
    // What stands for something else, such as a node's name.
    let pieces = quote.split('…').map(|piece| piece.trim_matches([' ', ';', ':', ',', '-', '\'']));
    pieces.filter(|piece| !piece.is_empty()).all(|piece| {
        forms(piece).iter().any(|form| form.len() > 1 && has(sources, form))
            || OF_OTHERS.iter().any(|other| piece.contains(other))
    })
}

fn is_command(quote: &str) -> bool {
    quote.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))
}

#[test]
fn what_the_page_of_symptoms_quotes_is_in_the_code() {
    let sources = sources();
    let all = quotes(&read(PAGE));
    assert!(all.len() > 250, "{}", all.len());
    let unknown: Vec<_> =
        all.iter().filter(|quote| !is_command(quote) && !is_known(&sources, quote)).collect();
    assert!(unknown.is_empty(), "{PAGE} quotes what no program says: {unknown:#?}");
}

#[test]
fn what_no_program_says_is_found() {
    let sources = sources();
    for quote in
        ["HostUnsafely", "the read is not useful", "multinic_db_connections_status", "POLL_SLOW_INTERVALS"]
    {
        assert!(!is_known(&sources, quote), "{quote}");
    }
}

/// The commands of our own programs in the page: their subcommands and options.
#[test]
fn the_commands_of_the_page_are_those_of_the_programs() {
    let page = read(PAGE);
    let (_, blocks) = parts(&page);
    let sources = sources();
    let mut count = 0;
    for text in quotes(&page).iter().chain(&blocks) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(at) =
                words.iter().position(|word| word.ends_with("/multinic-agent") || *word == "multinic-agent")
            else {
                continue;
            };
            for word in words[at + 1..].iter().take_while(|word| !["|", "#"].contains(word)) {
                let name = match word.strip_prefix("--") {
                    Some(flag) => format!("{}:", flag.replace('-', "_")),
                    None => format!("{}{}", word[..1].to_uppercase(), &word[1..]),
                };
                assert!(has(&sources, &name), "{line}: {word}");
                count += 1;
            }
        }
    }
    assert!(count > 5, "{count}");
}
