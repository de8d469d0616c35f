//! What `make images-tar` packs for clusters without a network. The images here are of small programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use multinic_testbed::cluster::image::{Image, pack, pack_program};
use tempfile::TempDir;

use crate::helm::root;
use crate::scripts::{failed, succeeded};
use crate::site::Site;

/// Of the chart, the binaries and the page.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// As a release build leaves them.
fn images(folder: &TempDir) -> PathBuf {
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    for name in ["multinic", "multinic-agent"] {
        let program = folder.path().join(name);
        fs::copy("/bin/true", &program).unwrap();
        pack_program(&program, &format!("{name}:{VERSION}"), &images.join(format!("{name}.tar"))).unwrap();
    }
    images
}

/// An archive of an image of this name, as skopeo makes one.
fn archive(folder: &TempDir, reference: &str) -> PathBuf {
    let root = folder.path().join("nothing");
    fs::create_dir_all(root.join("etc")).unwrap();
    let archive = folder.path().join("another.tar");
    pack(&root, &Image::new(reference, &["/nothing"]), &archive).unwrap();
    archive
}

fn bundle(folder: &TempDir, images: &Path, mariadb: Option<&Path>) -> Output {
    let mut make = Command::new("make");
    make.arg("bundle").arg(format!("IMAGES={}", images.display()));
    make.arg(format!("BUNDLE_FOLDER={}", folder.path().display()));
    if let Some(mariadb) = mariadb {
        make.arg(format!("MARIADB_IMAGE_TAR={}", mariadb.display()));
    }
    // What it is made of is another test's.
    make.arg("CARGO=false").current_dir(root()).output().unwrap()
}

/// The bundle of a folder, unpacked as the page says.
pub fn unpacked(folder: &Path, at: &Path) -> PathBuf {
    fs::create_dir_all(at).unwrap();
    let commands = "tar -C \"$0\" -xf \"$1.tar\" && cd \"$0/$1\" && sha256sum --check --quiet SHA256SUMS";
    let name = format!("multinic-{VERSION}");
    let mut shell = Command::new("sh");
    shell.args(["-c", commands]).arg(at).arg(&name).current_dir(folder);
    succeeded(&shell.output().unwrap());
    at.join(name)
}

#[test]
fn a_bundle_has_all_that_an_installation_without_a_network_needs() {
    let folder = tempfile::tempdir().unwrap();
    let images = images(&folder);
    let at = folder.path().join("inside");
    let said = succeeded(&bundle(&folder, &images, None));
    assert!(said.contains("the nodes need mariadb:10.11 from elsewhere"), "{said}");
    assert!(!unpacked(folder.path(), &at).join("images/mariadb.tar").exists());

    let another = archive(&folder, "docker.io/library/mariadb:10.1");
    let refused = failed(&bundle(&folder, &images, Some(&another)));
    assert!(refused.contains("is no archive of the image mariadb:10.11"), "{refused}");

    let mariadb = archive(&folder, "docker.io/library/mariadb:10.11");
    succeeded(&bundle(&folder, &images, Some(&mariadb)));
    let inside = unpacked(folder.path(), &at);
    assert_eq!(fs::read(inside.join("images/mariadb.tar")).unwrap(), fs::read(mariadb).unwrap());
    for part in ["images/multinic.tar", "images/multinic-agent.tar", "docs/install.md", "deploy/samples"] {
        assert!(inside.join(part).exists(), "{part}");
    }
    // A damaged file is noticed.
    fs::write(inside.join("images/multinic.tar"), "else").unwrap();
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&inside);
    let said = failed(&check.output().unwrap());
    assert!(said.contains("images/multinic.tar: FAILED"), "{said}");

    let Some(site) = Site::new() else { return };
    let inside = unpacked(folder.path(), &at);
    let variables = [("SKIP_BUILD", "true"), ("IMAGES_FOLDER", "images"), ("NODES", "192.0.2.1")];
    let script = inside.join("scripts/deploy.sh");
    let said = succeeded(&site.script(script.to_str().unwrap(), &["--dry-run"], &variables));
    for archive in ["multinic.tar", "multinic-agent.tar", "mariadb.tar"] {
        assert!(said.contains(&format!("would import images/{archive} on 192.0.2.1")), "{said}");
    }
    assert!(said.contains("would run: helm upgrade multinic"), "{said}");
}

#[test]
fn images_of_a_bundle_have_the_names_that_its_scripts_install() {
    let make = Command::new("make").args(["--dry-run", "images-tar"]).current_dir(root()).output().unwrap();
    let commands = succeeded(&make);
    for name in ["multinic", "multinic-agent"] {
        assert!(commands.contains(&format!("target/release/{name}={name}:{VERSION}")), "{commands}");
    }
}

#[test]
fn the_database_that_a_bundle_asks_for_is_the_one_that_operators_run() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    assert!(read("Makefile").contains("\nMARIADB_IMAGE = mariadb:10.11\n"));
    assert!(
        read("docs/resources.md")
            .contains("| `spec.database.image` | string | Its image; `mariadb:10.11`. |")
    );
}
