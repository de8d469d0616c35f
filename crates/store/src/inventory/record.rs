//! One node of one provider.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hash::node_hash;

/// By what a record is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordKey {
    /// The Kubernetes provider's id, as Viola gets it in `x-provider-id`; empty where a configuration names none.
    pub provider_id: String,
    /// The node's name.
    pub node_name: String,
}

/// A record as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// By what it is known.
    pub key: RecordKey,
    /// The Nova server.
    pub instance_id: String,
    /// The configuration as it was sent: a JSON object.
    pub config: String,
    /// Its [`node_hash`].
    pub last_config_hash: String,
    /// When the configuration last changed: RFC 3339, UTC, nanoseconds.
    pub updated_at: String,
    /// What the node's agent saw, a JSON object; none where nothing was reported.
    pub observed: Option<String>,
}

impl Record {
    /// Appends the record as JSON. What is JSON already is not parsed again.
    pub fn write_json(&self, out: &mut String) {
        let Self { key, instance_id, config, last_config_hash, updated_at, observed } = self;
        for (label, text) in [
            ("{\"providerId\":", &key.provider_id),
            (",\"nodeName\":", &key.node_name),
            (",\"instanceId\":", instance_id),
        ] {
            out.push_str(label);
            out.push_str(&quoted(text));
        }
        out.push_str(",\"config\":");
        out.push_str(config);
        for (label, text) in [(",\"lastConfigHash\":", last_config_hash), (",\"updatedAt\":", updated_at)] {
            out.push_str(label);
            out.push_str(&quoted(text));
        }
        if let Some(observed) = observed {
            out.push_str(",\"observed\":");
            out.push_str(observed);
        }
        out.push('}');
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A record as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) key: RecordKey,
    pub(super) instance_id: String,
    pub(super) config: String,
    pub(super) hash: String,
    pub(super) interface_count: usize,
}

/// Why something cannot be a record.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The configuration is not of the form that Viola is sent.
    #[error("the configuration is not a node's: {0}")]
    Config(#[from] serde_json::Error),
    /// A text that identifies the record is empty or too long.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What of a configuration is looked at; the rest is kept as it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    node_name: String,
    #[serde(default)]
    instance_id: String,
    #[serde(default)]
    interfaces: Option<Vec<serde::de::IgnoredAny>>,
}

impl Entry {
    /// Takes a configuration as it is sent: an object with `nodeName`, `instanceId` and `interfaces`.
    pub fn new(provider: &str, config: &impl Serialize) -> Result<Self, EntryError> {
        Self::of_json(provider, serde_json::to_string(config)?, None)
    }

    /// `node`: the record's own name for the node, where it has one.
    pub(super) fn of_json(provider: &str, config: String, node: Option<&str>) -> Result<Self, EntryError> {
        let outline: Outline = serde_json::from_str(&config)?;
        let node_name = node.map_or(outline.node_name, str::to_owned);
        at_most("providerId", provider, 255)?;
        within("nodeName", &node_name, 255)?;
        if outline.instance_id.chars().count() > 64 {
            return Err(EntryError::Field { field: "instanceId", reason: "is longer than 64 characters" });
        }
        Ok(Self {
            key: RecordKey { provider_id: provider.to_owned(), node_name },
            instance_id: outline.instance_id,
            hash: node_hash(&config),
            interface_count: outline.interfaces.unwrap_or_default().len(),
            config,
        })
    }

    /// By what it is known.
    pub fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The hash of its configuration.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

pub(super) fn within(field: &'static str, text: &str, limit: usize) -> Result<(), EntryError> {
    match text {
        "" => Err(EntryError::Field { field, reason: "is empty" }),
        text => at_most(field, text, limit),
    }
}

fn at_most(field: &'static str, text: &str, limit: usize) -> Result<(), EntryError> {
    match text.chars().count() {
        length if length > limit => Err(EntryError::Field { field, reason: "is longer than 255 characters" }),
        _ => Ok(()),
    }
}

/// Which records; each of them none: all. Several must all apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The provider.
    pub provider_id: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The Nova server.
    pub instance_id: Option<String>,
}

impl Filter {
    /// Whether a record is one of them.
    pub fn takes(&self, key: &RecordKey, instance: &str) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
        same(&self.provider_id, &key.provider_id)
            && same(&self.node_name, &key.node_name)
            && same(&self.instance_id, instance)
    }
}

/// RFC 3339 in UTC with nine digits: the texts are in the order of the times.
pub(super) fn time_text(time: Timestamp) -> String {
    format!("{time:.9}")
}
