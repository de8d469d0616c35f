//! Makes container images of our programs, as OCI archives, without an engine:
//! `multinic-images FOLDER PROGRAM=REFERENCE...`
//!
//! Each archive has the name of its program.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use multinic_testbed::cluster::image;

const USAGE: &str = "usage: multinic-images FOLDER PROGRAM=REFERENCE...\n\
                     such as: multinic-images target/images target/release/multinic=registry.example/multinic:0.1.0";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, images @ ..] = arguments.as_slice() else { bail!(USAGE) };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for image in images {
        let (program, reference) = image.split_once('=').context(USAGE)?;
        let program = Path::new(program);
        let name = program.file_name().context(USAGE)?.to_string_lossy().into_owned();
        let archive = folder.join(format!("{name}.tar"));
        image::pack_program(program, reference, &archive)?;
        println!("{reference}: {}", archive.display());
    }
    Ok(())
}
