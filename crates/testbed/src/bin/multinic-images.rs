//! Makes the container images of both programs, as OCI archives, without an engine:
//! `multinic-images FOLDER PREFIX TAG [PROGRAM]...`
//!
//! The programs are those beside this one unless they are given. The archive of each has its name.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use multinic_testbed::cluster::image;
use multinic_testbed::program::find;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, prefix, tag, programs @ ..] = arguments.as_slice() else {
        bail!("usage: multinic-images FOLDER PREFIX TAG [PROGRAM]...");
    };
    let mut programs: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    if programs.is_empty() {
        programs = vec![find("multinic")?, find("multinic-agent")?];
    }
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for program in programs {
        let name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        let archive = folder.join(format!("{name}.tar"));
        let reference = format!("{prefix}{name}:{tag}");
        image::pack_program(&program, &reference, &archive)?;
        println!("{reference} {}", archive.display());
    }
    Ok(())
}
