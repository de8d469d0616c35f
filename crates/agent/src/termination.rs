//! What a job leaves behind in its termination message. The kubelet keeps 4096 bytes of it, and what is cut there is no
//! JSON any more, so it is shortened here until it fits.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use multinic_host::{APPLY_FAILED, ROLLBACK_FAILED, ROLLED_BACK};
use serde_json::{Value, json};

use crate::facts::{Facts, NicFacts, Stage};
use crate::node_resource::access::cut;

/// What the kubelet keeps.
pub const LIMIT: usize = 4096;
/// How long each reason may be, tried one after the other.
const REASON_LIMITS: [usize; 5] = [400, 160, 80, 40, 0];

/// The message: what the controllers of the older programs read, in whole JSON of at most [`LIMIT`] bytes. Counts are
/// always true; where not everything fits, reasons are cut first, then results are left out, then failures, and
/// `truncated` is there.
pub fn message(node: &str, facts: &Facts, deleted: usize, delete_errors: usize, now: Timestamp) -> String {
    let failed: Vec<&NicFacts> = facts.nics.iter().filter(|nic| nic.stage != Stage::Configured).collect();
    let done: Vec<&NicFacts> = facts.nics.iter().filter(|nic| nic.stage == Stage::Configured).collect();
    let text = |failures: &[&NicFacts], results: &[&NicFacts], longest: usize| {
        let whole = failures.len() == failed.len() && results.len() == done.len();
        let failures: Vec<Value> = failures.iter().map(|nic| failure(nic, longest)).collect();
        let results: Vec<Value> = results.iter().map(|nic| result(nic)).collect();
        let list = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::from(list) };
        let mut message = json!({
            "node": node,
            "processed": done.len(),
            "failed": failed.len(),
            "total": facts.nics.len(),
            "failures": list(failures),
            "results": list(results),
            "deleted_total": deleted,
            "delete_errors": delete_errors,
            "timestamp": format!("{now:.0}"),
        });
        if !whole && let Some(map) = message.as_object_mut() {
            map.insert("truncated".to_owned(), Value::Bool(true));
        }
        message.to_string()
    };
    let mut tried = String::new();
    for longest in REASON_LIMITS {
        tried = text(&failed, &done, longest);
        if tried.len() <= LIMIT {
            return tried;
        }
    }
    let (mut failures, mut results) = (failed.as_slice(), done.as_slice());
    while tried.len() > LIMIT && !(failures.is_empty() && results.is_empty()) {
        match results.split_last() {
            Some((_, fewer)) => results = fewer,
            None => failures = failures.split_last().map_or(&[], |(_, fewer)| fewer),
        }
        tried = text(failures, results, 0);
    }
    tried
}

fn name(nic: &NicFacts) -> Option<String> {
    let asked = || nic.id.map(|id| format!("multinic{id}"));
    nic.link.as_ref().map(|link| link.name.clone()).or_else(asked)
}

fn failure(nic: &NicFacts, longest: usize) -> Value {
    let mut reason = nic.reason.clone();
    if longest > 0 && !nic.message.is_empty() {
        reason = cut(&format!("{reason}: {}", nic.message), longest);
    }
    json!({
        "id": nic.id,
        "mac": nic.mac,
        "name": name(nic),
        "errorType": error_type(&nic.reason),
        "reason": reason,
    })
}

fn result(nic: &NicFacts) -> Value {
    json!({ "id": nic.id, "mac": nic.mac, "name": name(nic), "status": "Configured" })
}

/// The words of the older programs.
fn error_type(reason: &str) -> &'static str {
    match reason {
        APPLY_FAILED | ROLLED_BACK | ROLLBACK_FAILED | "Drift" | "DuplicateAddress" => "network",
        "DryRun" => "unknown",
        // A NIC that is not there did not pass their preflight.
        _ => "validation",
    }
}

/// Writes it, if there is such a file: the kubelet makes it, and outside a pod nobody reads it.
pub fn write(path: &Path, message: &str) -> io::Result<bool> {
    match OpenOptions::new().write(true).truncate(true).open(path) {
        Ok(mut file) => file.write_all(message.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::LinkFacts;

    fn nic(number: u8, stage: Stage, message: &str) -> NicFacts {
        NicFacts {
            entry: number.into(),
            id: Some(number),
            mac: format!("fa:16:3e:00:00:{number:02x}").parse().ok(),
            port: None,
            link: Some(LinkFacts {
                name: format!("multinic{number}"),
                index: 1,
                up: true,
                mtu: 1500,
                addresses: Vec::new(),
            }),
            stage,
            reason: "ApplyFailed".to_owned(),
            message: message.to_owned(),
        }
    }

    fn of(nics: Vec<NicFacts>) -> (usize, Value) {
        let facts = Facts { nics, ..Facts::default() };
        let text = message(&"n".repeat(253), &facts, 3, 1, Timestamp::UNIX_EPOCH);
        (text.len(), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn it_is_what_the_older_controllers_read() {
        let (_, value) = of(vec![nic(0, Stage::Configured, ""), nic(1, Stage::Failed, "busy")]);
        assert_eq!(value["processed"], 1);
        assert_eq!(value["failed"], 1);
        assert_eq!(value["total"], 2);
        assert_eq!(
            value["failures"],
            json!([{"id": 1, "mac": "fa:16:3e:00:00:01", "name": "multinic1", "errorType": "network",
                    "reason": "ApplyFailed: busy"}])
        );
        assert_eq!(
            value["results"],
            json!([{"id": 0, "mac": "fa:16:3e:00:00:00", "name": "multinic0", "status": "Configured"}])
        );
        assert_eq!((&value["deleted_total"], &value["delete_errors"]), (&json!(3), &json!(1)));
        assert_eq!(value["timestamp"], "1970-01-01T00:00:00Z");
        assert!(of(Vec::new()).1["failures"].is_null());
    }

    #[test]
    fn it_always_fits_and_its_counts_are_always_true() {
        for failing in [0, 1, 10, 32, 64] {
            let nics = (0..64_u8).map(|number| {
                let stage = if number < failing { Stage::Failed } else { Stage::Configured };
                nic(number, stage, &"ä\"\\\n".repeat(300))
            });
            let (length, value) = of(nics.collect());
            assert!(length <= LIMIT, "{failing} failures: {length}");
            assert_eq!(value["failed"], failing);
            assert_eq!(value["processed"], 64 - failing);
            assert_eq!(value["truncated"], true);
            if failing > 0 {
                assert!(!value["failures"].as_array().unwrap().is_empty());
            }
        }
    }

    #[test]
    fn without_a_file_there_is_nobody_to_read_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!write(&folder.path().join("none"), "x").unwrap());
        let file = folder.path().join("log");
        std::fs::write(&file, "something longer").unwrap();
        assert!(write(&file, "x").unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
    }
}
