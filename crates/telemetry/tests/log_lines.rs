//! What a log line looks like.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io;
use std::sync::{Arc, Mutex};

use multinic_telemetry::logs::{self, LogFormat, LogLevels};
use serde_json::Value;
use tracing::subscriber::with_default;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Buffer {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

fn written(format: LogFormat, levels: &str, speak: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let levels: LogLevels = levels.parse().unwrap();
    let layer = logs::layer(format, levels, false, buffer.clone());
    with_default(tracing_subscriber::registry().with(layer), speak);
    String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_json_line_is_flat_and_has_the_keys_of_the_contract() {
    let text = written(LogFormat::Json, "log_lines=info", || {
        let error = io::Error::other("no such device");
        tracing::info!(node_name = "worker-1", interface_id = 3, up = true, "configured");
        tracing::error!(error = &error as &(dyn std::error::Error + 'static), "failed");
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<&str> = lines[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["interface_id", "level", "msg", "node_name", "time", "up"]);
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines[0]["msg"], "configured");
    assert_eq!(lines[0]["interface_id"], 3);
    let time: jiff::Timestamp = lines[0]["time"].as_str().unwrap().parse().unwrap();
    assert!(time <= jiff::Timestamp::now());
    assert_eq!(lines[1]["level"], "error");
    assert_eq!(lines[1]["error"], "no such device");
}

#[test]
fn a_message_with_a_line_break_stays_one_line() {
    let text = written(LogFormat::Json, "log_lines=info", || tracing::info!(error = "a\nb", "c\nd"));
    assert_eq!(text.lines().count(), 1);
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["msg"], "c\nd");
}

#[test]
fn a_field_named_like_a_fixed_key_does_not_repeat_it() {
    let text = written(LogFormat::Json, "log_lines=info", || tracing::info!(level = 3, "back-off"));
    assert_eq!(text.matches("\"level\"").count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["fields.level"], 3);
}

#[test]
fn fields_of_spans_are_on_the_line_and_the_event_wins() {
    let text = written(LogFormat::Json, "log_lines=info", || {
        let _node = tracing::info_span!("node", node_name = "a", mac_address = "outer").entered();
        tracing::info!(mac_address = "inner", "x");
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["node_name"], "a");
    assert_eq!(line["mac_address"], "inner");
}

#[test]
fn lines_below_the_level_are_not_written() {
    let text = written(LogFormat::Json, "warn", || {
        tracing::info!(target: "multinic_agent", "no");
        tracing::warn!(target: "multinic_agent", "yes");
        tracing::info!(target: "sqlx", "no");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn text_is_for_people_and_has_no_colour_codes_off_a_terminal() {
    let text = written(LogFormat::Text, "log_lines=info", || tracing::warn!(node_name = "a", "configured"));
    assert!(
        text.contains("WARN") && text.contains("configured") && text.contains("node_name=\"a\""),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}
