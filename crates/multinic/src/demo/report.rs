//! What happened, and how long each step took.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// The steps so far.
#[derive(Debug)]
pub struct Report {
    json: bool,
    started: Instant,
    steps: Vec<Step>,
    error: Option<String>,
    took: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct Step {
    what: String,
    verified: Vec<String>,
    #[serde(serialize_with = "milliseconds", rename = "milliseconds")]
    took: Duration,
}

fn milliseconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1e6).round() / 1e3)
}

impl Report {
    /// No step yet.
    pub fn new(json: bool) -> Self {
        Self { json, started: Instant::now(), steps: Vec::new(), error: None, took: None }
    }

    /// Tells on standard error what is being done now.
    pub fn progress(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut stderr = std::io::stderr();
        // A terminal that is gone is no reason to stop.
        let _ = if stderr.is_terminal() {
            writeln!(stderr, "\u{1b}[2m{seconds:6.1}s\u{1b}[0m {what}")
        } else {
            writeln!(stderr, "{seconds:6.1}s {what}")
        };
    }

    /// A step that was verified: what was done, what the kernel showed, how long it took from the cause to the effect.
    pub fn verified(&mut self, what: impl Into<String>, seen: Vec<String>, took: Duration) {
        self.steps.push(Step { what: what.into(), verified: seen, took });
    }

    /// Everything was shown; what follows does not count.
    pub fn finish(&mut self) {
        self.took = Some(self.started.elapsed());
    }

    /// The demo ends here.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.error = Some(format!("{error:#}"));
    }

    /// Whether nothing failed.
    pub fn all_verified(&self) -> bool {
        self.error.is_none() && !self.steps.is_empty()
    }

    /// Prints the table, or the JSON.
    pub fn print(&self) -> anyhow::Result<()> {
        let total = self.took.unwrap_or_else(|| self.started.elapsed());
        if self.json {
            let document = serde_json::json!({
                "verified": self.all_verified(),
                "error": self.error,
                "seconds": (total.as_secs_f64() * 1e3).round() / 1e3,
                "steps": self.steps,
            });
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["step", "seen in the kernel", "took"]);
        for step in &self.steps {
            table.add_row([step.what.clone(), step.verified.join("\n"), text(step.took)]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        match &self.error {
            None => println!("Everything was verified. The demo took {}.", text(total)),
            Some(error) => println!("FAILED: {error}"),
        }
        Ok(())
    }
}

fn text(took: Duration) -> String {
    if took < Duration::from_millis(1) {
        format!("{:.0} µs", took.as_secs_f64() * 1e6)
    } else if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", took.as_secs_f64())
    }
}
