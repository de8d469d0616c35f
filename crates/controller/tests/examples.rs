//! The files that people copy from: each is read as the controller reads it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing")]

use std::path::Path;

use multinic_controller::standalone::{Contents, Directory};
use multinic_core::config::{Credentials, Defaults, OpenstackConfig, SubnetSelector, VmRef};

/// The folder, read as `--standalone examples` reads it, with the one setting that no file may hold.
fn examples() -> Contents {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let defaults = Defaults { contrabass_key: Some("0123456789abcdef".into()), ..Defaults::default() };
    Directory::new(folder).read(&defaults).unwrap()
}

fn configs() -> Vec<OpenstackConfig> {
    examples().sources.into_values().map(|source| source.config.unwrap()).collect()
}

#[test]
fn every_example_parses() {
    let Contents { sources, broken } = examples();
    assert!(broken.is_empty(), "{broken:?}");
    assert!(!sources.is_empty());
    for (key, source) in sources {
        if let Err(errors) = source.config {
            panic!("{key} in {}: {errors}", source.file.display());
        }
    }
}

#[test]
fn every_example_file_is_one_configuration_and_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let list = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    assert_eq!(names.len(), examples().sources.len());
    for name in names {
        assert!(list.contains(&format!("({name})")), "{name} is not in examples/README.md");
    }
}

#[test]
fn the_examples_show_every_way_to_log_in() {
    let configs = configs();
    let any = |is: fn(&Credentials) -> bool| configs.iter().any(|config| is(&config.cloud.credentials));
    assert!(any(|it| matches!(it, Credentials::Password { .. })));
    assert!(any(|it| matches!(it, Credentials::ApplicationCredential { .. })));
    assert!(any(|it| matches!(it, Credentials::Provider { .. })));
}

#[test]
fn the_examples_show_every_way_to_select() {
    let selections: Vec<_> = configs().into_iter().map(|config| config.selection).collect();
    let vms = || selections.iter().flat_map(|selection| &selection.vms);
    assert!(vms().any(|vm| matches!(vm, VmRef::Id(_))));
    assert!(vms().any(|vm| matches!(vm, VmRef::Name(_))));
    assert!(selections.iter().any(|it| matches!(&it.subnets, SubnetSelector::Name(_))));
    assert!(
        selections.iter().any(|it| matches!(&it.subnets, SubnetSelector::Ids(ids) if ids.len() > 1)),
        "several subnets"
    );
}
