//! `make bench`: the figures of docs/benchmarks.md, each against its limit in the same run. Exit codes: 0 all limits
//! held, 2 one was missed, 1 something could not be measured.

mod agent;
mod controller;
mod figures;

use std::process::ExitCode;

use figures::Figures;

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
    agent::measure(figures)?;
    controller::measure(figures)
}
