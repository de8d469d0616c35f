//! The commands of docs/install.md, run in their order as somebody would who follows the page.

use std::fs;

use crate::helm::root;
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
