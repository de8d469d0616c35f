//! What values make of the default, as files. `UPDATE=1 cargo test -p multinic-testbed --test chart` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::helm::{Helm, key};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart").join(name)
}

fn by_key(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (key(&object), object)).collect()
}

/// What is as it is under `deploy/`, whose names say enough here.
const RIGHTS: [&str; 6] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "ValidatingAdmissionPolicy",
];

/// The objects that differ from the default's, and the names of those that are missing.
fn difference(default: &BTreeMap<String, Value>, there: &BTreeMap<String, Value>) -> String {
    let mut text = String::new();
    for gone in default.keys().filter(|key| !there.contains_key(*key)) {
        text += &format!("# without {gone}\n");
    }
    let (rights, others): (Vec<_>, Vec<_>) = there
        .iter()
        .filter(|(key, object)| default.get(*key) != Some(object))
        .partition(|(_, object)| RIGHTS.contains(&object["kind"].as_str().unwrap()));
    for (key, _) in rights {
        text += &format!("# with {key}\n");
    }
    for (_, object) in others {
        text += &format!("---\n{}", serde_saphyr::to_string(object).unwrap());
    }
    text
}

#[test]
fn values_make_of_the_default_what_the_golden_files_say() {
    let Some(helm) = Helm::installed() else { return };
    let default = by_key(helm.template(&[]));
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder("values")).unwrap() {
        let values = entry.unwrap().path();
        let there = by_key(helm.template(&["--values", values.to_str().unwrap()]));
        let made = difference(&default, &there);
        let golden = folder("golden").join(values.file_name().unwrap());
        if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
            fs::write(&golden, &made).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != made {
            wrong.push(format!("{} is not what is made:\n{made}", golden.display()));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, fs::read_dir(folder("golden")).unwrap().count());
}
