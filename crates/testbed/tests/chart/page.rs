//! The commands of docs/install.md, run in their order as somebody would who follows the page.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::bundle::{VERSION, unpacked};
use crate::helm::root;
use crate::scripts::succeeded;
use crate::site::{NAMESPACE, Site};

/// A block of commands: where it begins, what is said of it behind `sh`, and its text.
struct Block {
    line: usize,
    needs: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut within = false;
    for (number, line) in page.lines().enumerate() {
        if let Some(fence) = line.strip_prefix("```") {
            if !within && let Some(needs) = fence.strip_prefix("sh") {
                blocks.push(Block { line: number + 1, needs: needs.trim().to_owned(), text: String::new() });
            }
            within = !within;
        } else if within {
            let block = blocks.last_mut().expect("only commands are in blocks");
            block.text += &format!("{line}\n");
        }
    }
    blocks
}

fn read(page: &str) -> Vec<Block> {
    blocks(&fs::read_to_string(root().join("docs").join(page)).unwrap())
}

#[test]
fn every_command_of_the_install_page_that_needs_no_node_works_in_its_turn() {
    let Some(site) = Site::new() else { return };
    let mut count = 0;
    for block in read("install.md") {
        match block.needs.as_str() {
            "" => {
                site.shell(&format!("docs/install.md:{}", block.line), &block.text);
                count += 1;
            }
            // A release build; a node or a registry, which are elsewhere.
            "build" | "node" | "registry" => (),
            other => panic!("docs/install.md:{}: {other}", block.line),
        }
    }
    assert!(count > 8, "only {count} blocks");
    assert_eq!(site.of_release(), Vec::<String>::new());
    assert_eq!(site.names("customresourcedefinitions").len(), 3);
    assert_eq!(site.names(&format!("namespace/{NAMESPACE}")).len(), 1);
}

/// The name that an archive gives its image, and the program in it, of which the version is asked.
fn image_in(archive: &Path) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let unpack = |archive: &Path, to: &Path| {
        let status = Command::new("tar").arg("-C").arg(to).arg("-xf").arg(archive).status().unwrap();
        assert!(status.success(), "{}", archive.display());
    };
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.path().join(path)).unwrap()).unwrap()
    };
    let blob =
        |descriptor: &Value| format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
    unpack(archive, folder.path());
    let descriptor = read("index.json")["manifests"][0].clone();
    let manifest = read(&blob(&descriptor));
    let config = read(&blob(&manifest["config"]));
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    unpack(&folder.path().join(blob(&manifest["layers"][0])), &root);
    let program = config["config"]["Entrypoint"][0].as_str().unwrap();
    let mut command = Command::new(root.join(program.trim_start_matches('/')));
    let said = succeeded(&command.arg("--version").output().unwrap());
    (descriptor["annotations"]["io.containerd.image.name"].as_str().unwrap().to_owned(), said)
}

/// Both images of a folder are there under names of this registry, and run.
fn assert_images(folder: &Path, registry: &str) {
    for program in ["multinic", "multinic-agent"] {
        let (name, said) = image_in(&folder.join(format!("{program}.tar")));
        assert_eq!(name, format!("{registry}/{program}:{VERSION}"));
        assert!(said.starts_with(&format!("{program} {VERSION}")), "{said}");
    }
}

#[test]
#[ignore = "makes a release build: make test-images"]
fn the_builds_of_the_install_page_make_what_it_says() {
    let blocks = read("install.md");
    let builds: Vec<&Block> = blocks.iter().filter(|block| block.needs == "build").collect();
    let [images, bundle] = builds.as_slice() else { panic!("{} builds", builds.len()) };
    let run = |block: &Block| {
        let mut shell = Command::new("bash");
        // Cargo tells a program that it runs what would have others built anew.
        let own = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_string_lossy().starts_with("CARGO"));
        own.filter(|name| name != "CARGO_INCREMENTAL" && name != "CARGO_NET_OFFLINE").for_each(|name| {
            shell.env_remove(name);
        });
        succeeded(&shell.args(["-euo", "pipefail", "-c", &block.text]).current_dir(root()).output().unwrap());
    };
    run(images);
    assert_images(&root().join("target/images"), "registry.example");

    run(bundle);
    let folder = tempfile::tempdir().unwrap();
    let inside = unpacked(&root().join("target"), folder.path());
    assert_images(&inside.join("images"), "docker.io/library");
    let has_sbom = Command::new("cargo").args(["sbom", "--version"]).output().unwrap().status.success();
    for program in ["multinic", "multinic-agent"] {
        let Ok(text) = fs::read(inside.join(format!("sbom/{program}.cdx.json"))) else {
            assert!(!has_sbom, "{program} has no list of what it is made of");
            continue;
        };
        let list: Value = serde_json::from_slice(&text).unwrap();
        let parts: Vec<&str> = list["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["name"].as_str().unwrap())
            .collect();
        assert!(
            list["bomFormat"] == "CycloneDX" && parts.contains(&"tokio") && parts.contains(&"multinic-core")
        );
    }
}
