//! Logs: one line per event on standard error, so that what a command prints on standard output stays clean.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

mod flat_json;

pub use flat_json::FlatJson;

/// How this workspace's crates begin: the targets of its own events.
const OURS: &str = "multinic";

/// What is wrong with a log setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// `LOG_FORMAT` is neither `json` nor `text`.
    #[error("LOG_FORMAT: {0:?} is neither json nor text")]
    Format(String),
    /// `LOG_LEVEL` is no level and no list of levels by target.
    #[error(
        "LOG_LEVEL: {0:?} is not one of trace, debug, info, warn, error, off, nor a list such as info,multinic_host=debug"
    )]
    Level(String),
    /// Something set a subscriber before.
    #[error("logs are already set up in this process")]
    AlreadySet,
}

/// For whom the lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    #[default]
    Json,
    /// For people, with colour on a terminal unless `NO_COLOR` is set.
    Text,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Which events are written.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLevels(Targets);

impl Default for LogLevels {
    fn default() -> Self {
        Self::of_ours(LevelFilter::INFO)
    }
}

impl LogLevels {
    /// A bare level speaks of our own crates; libraries stay at warnings, or one would drown in their details.
    fn of_ours(level: LevelFilter) -> Self {
        Self(Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OURS, level))
    }
}

impl FromStr for LogLevels {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || LogError::Level(text.to_owned());
        // The library's own parser takes numbers and the empty text for levels too, and a misspelt one for a target.
        let is_level = |item: &str| {
            item.bytes().all(|b| b.is_ascii_alphabetic())
                && !item.is_empty()
                && item.parse::<LevelFilter>().is_ok()
        };
        match text.trim().to_ascii_lowercase().as_str() {
            // The names that the older programs' library had besides.
            "warning" => Ok(Self::of_ours(LevelFilter::WARN)),
            "fatal" | "panic" => Ok(Self::of_ours(LevelFilter::ERROR)),
            level if is_level(level) => level.parse().map(Self::of_ours).map_err(|_| error()),
            list if list
                .split(',')
                .all(|item| is_level(item.split_once('=').map_or(item, |(_, level)| level))) =>
            {
                list.parse().map(Self).map_err(|_| error())
            }
            _ => Err(error()),
        }
    }
}

/// Sets up the logs of this process, once.
pub fn init(format: LogFormat, levels: LogLevels) -> Result<(), LogError> {
    let color =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = layer(format, levels, color, std::io::stderr);
    Registry::default().with(layer).try_init().map_err(|_| LogError::AlreadySet)
}

/// The layer that writes the lines, for a writer of the caller's.
pub fn layer<S, W>(
    format: LogFormat,
    levels: LogLevels,
    color: bool,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        LogFormat::Json => FlatJson::new(writer).with_filter(levels.0).boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(color)
            .with_target(false)
            .with_writer(writer)
            .with_filter(levels.0)
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_an_error_that_names_the_variable() {
        for text in ["inof", "", "info,debgu", "multinic=loud", "1"] {
            let error = text.parse::<LogLevels>().unwrap_err().to_string();
            assert!(error.starts_with("LOG_LEVEL: "), "{text:?}: {error}");
        }
        let error = "yaml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(error.starts_with("LOG_FORMAT: "), "{error}");
    }

    #[test]
    fn a_bare_level_speaks_of_our_crates() {
        let levels: LogLevels = "debug".parse().unwrap();
        assert!(levels.0.would_enable("multinic_agent::pass", &tracing::Level::DEBUG));
        assert!(!levels.0.would_enable("sqlx::query", &tracing::Level::INFO));
        let quiet: LogLevels = "error".parse().unwrap();
        assert!(!quiet.0.would_enable("sqlx::query", &tracing::Level::WARN));
    }

    #[test]
    fn levels_may_differ_by_target() {
        let levels: LogLevels = "warn,multinic_host=trace".parse().unwrap();
        assert!(levels.0.would_enable("multinic_host::links", &tracing::Level::TRACE));
        assert!(!levels.0.would_enable("multinic_agent", &tracing::Level::INFO));
    }
}
