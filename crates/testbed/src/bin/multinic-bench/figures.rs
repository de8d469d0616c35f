//! The figures of a run, each beside its limit.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Figures {
    missed: Vec<String>,
}

impl Figures {
    /// What the next figures are about.
    pub fn note(&mut self, text: impl AsRef<str>) {
        println!("\n{}", text.as_ref());
    }

    /// A figure without a limit.
    pub fn value(&mut self, name: &str, value: impl AsRef<str>) {
        println!("  {name:<52} {:>12}", value.as_ref());
    }

    /// A figure that must not exceed its limit.
    pub fn limit(&mut self, name: &str, value: f64, unit: &str, limit: f64) {
        let good = value <= limit;
        let mark = if good { "ok" } else { "MISSED" };
        println!("  {name:<52} {:>12}   limit {limit} {unit}: {mark}", format!("{value:.2} {unit}"));
        if !good {
            self.missed.push(format!("{}: {value:.2} {unit}, limit {limit}", name.trim()));
        }
    }

    /// Something that must be so.
    pub fn check(&mut self, name: &str, good: bool) {
        println!("  {name:<52} {:>12}", if good { "yes" } else { "NO" });
        if !good {
            self.missed.push(name.trim().to_owned());
        }
    }

    /// What was missed.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }
}

/// A line of `/proc/PID/status` that is in kB, in MiB.
pub fn memory(pid: u32, line: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    value.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// User and system time of a process in ticks of 10 ms (proc_pid_stat(5), fields 14 and 15).
pub fn processor_ticks(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let tick = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    Ok(tick(11) + tick(12))
}

/// Times of one thing that was done many times.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn push(&mut self, took: Duration) {
        let at = self.0.partition_point(|other| *other <= took);
        self.0.insert(at, took);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// A percentile in milliseconds.
    pub fn milliseconds(&self, percentile: usize) -> f64 {
        let at = (self.0.len() * percentile / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    /// The same as text.
    pub fn text(&self, percentile: usize) -> String {
        format!("{:.2} ms", self.milliseconds(percentile))
    }
}
