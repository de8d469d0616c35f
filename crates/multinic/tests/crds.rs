//! `multinic crds` prints what `deploy/crds` holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn crds_prints_the_definitions_that_are_installed() {
    let output = Command::new(env!("CARGO_BIN_EXE_multinic")).arg("crds").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let mut rest = printed.len();
    for name in [
        "multinic.example.com_openstackconfigs.yaml",
        "multinic.io_multinicnodeconfigs.yaml",
        "multinic.example.com_multinicoperators.yaml",
    ] {
        let file = fs::read_to_string(folder.join(name)).unwrap();
        let (_comment, document) = file.split_once('\n').unwrap();
        assert!(printed.contains(document), "{name} is not printed");
        rest -= document.len();
    }
    assert_eq!(rest, 0, "more is printed than is installed");
}
