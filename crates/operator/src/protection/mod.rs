//! What others may do to the objects that the operator made. Pure, but for the count of what was refused.
//!
//! * [`change`]: what a change changes. [`judge`](mod@judge): whether that is allowed. [`advice`]: how to do it instead.
//! * [`tally`]: what is to be told of it.

pub mod advice;
pub mod change;
pub mod judge;
pub mod tally;

use serde_json::Value;

use self::change::Operation;
use self::judge::Rules;

/// Whether others are kept from changing things, and from what not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The rules; none: everybody may do everything.
    pub rules: Option<Rules>,
    /// What `allowedOperations` names and nobody knows.
    pub unknown: Vec<String>,
}

impl Wanted {
    /// What a `MultiNicOperator` wants, also if the rest of its spec cannot be read.
    pub fn of(namespace: &str, object: &Value) -> Self {
        let protection = object.pointer("/spec/protection").cloned().unwrap_or_default();
        if protection.get("enableMutationPrevention") != Some(&Value::Bool(true)) {
            return Self::default();
        }
        let mut rules = Rules { namespace: namespace.to_owned(), ..Rules::default() };
        let mut unknown = Vec::new();
        let words = protection.get("allowedOperations").and_then(Value::as_array);
        for word in words.into_iter().flatten().filter_map(Value::as_str) {
            match Operation::named(word) {
                Some(operation) => drop(rules.allowed.insert(operation)),
                None => unknown.push(word.to_owned()),
            }
        }
        Self { rules: Some(rules), unknown }
    }
}
