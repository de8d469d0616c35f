//! How a MultiNIC process speaks: its logs, its metrics, its health documents, and how it is told to stop.
//!
//! * [`connections`]: the connections of an HTTP server, with TLS and limits.
//! * [`logs`]: one line per event on standard error, JSON for machines or text for people.
//! * [`pages`]: the HTTP server of `/metrics`, `/livez`, `/readyz` and the health document.
//! * [`pulse`]: what probes and people see of a loop.
//! * [`process`]: the process's own figures as metrics.
//! * [`shutdown`]: SIGTERM and SIGINT as a value to wait for.
//! * [`uptime`]: how long a process has run, as text.

pub mod connections;
pub mod logs;
pub mod pages;
pub mod process;
pub mod pulse;
pub mod shutdown;
pub mod uptime;
