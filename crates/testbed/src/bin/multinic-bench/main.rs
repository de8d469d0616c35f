//! `make bench`: the figures of docs/benchmarks.md, each against its limit in the same run. Exit codes: 0 all limits
//! held, 2 one was missed, 1 something could not be measured.
//!
//! `multinic-bench PART…` measures these parts alone: `agent`, `resource`, `controller`, `objects`, `inventory`.

mod agent;
mod controller;
mod figures;
mod fleet;
mod inventory;
mod objects;
mod resource;

use std::process::ExitCode;

use anyhow::ensure;
use figures::Figures;
use multinic_testbed::kubernetes::ControlPlane;

const PARTS: [&str; 5] = ["agent", "resource", "controller", "objects", "inventory"];

fn main() -> ExitCode {
    let mut figures = Figures::default();
    let result = measure(&mut figures);
    if let Err(error) = result {
        eprintln!("multinic-bench: {error:#}");
        return ExitCode::FAILURE;
    }
    for missed in figures.missed() {
        println!("MISSED {missed}");
    }
    if figures.missed().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let unknown = asked.iter().find(|part| !PARTS.contains(&part.as_str()));
    ensure!(unknown.is_none(), "{} is none of {}", unknown.map_or("", String::as_str), PARTS.join(", "));
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    // More than one cryptography is compiled in, so rustls asks which; a second answer changes nothing.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    if wants("agent") {
        agent::measure(figures)?;
    }
    // One API server for what needs it: idle, it costs nothing that would show.
    let needs_api = wants("resource") || wants("objects");
    let plane = if needs_api && ControlPlane::installed() { Some(ControlPlane::start()?) } else { None };
    if let Some(plane) = plane.as_ref().filter(|_| wants("resource")) {
        resource::measure(figures, plane)?;
    }
    if let Some(plane) = plane.as_ref().filter(|_| wants("objects")) {
        objects::measure(figures, plane)?;
    }
    drop(plane);
    if wants("controller") {
        controller::measure(figures)?;
    }
    if wants("inventory") {
        inventory::measure(figures)?;
    }
    Ok(())
}
