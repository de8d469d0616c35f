//! What was carried out last of each object, where others are left as they are: by it the operator's next step is told from what
//! others changed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::kinds::Key;
use crate::object::Object;

/// Digests of objects as they were wanted, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record(pub BTreeMap<String, String>);

impl Record {
    /// Of objects as they are wanted.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        Self(objects.into_iter().map(|object| (name(&object.key), digest(object))).collect())
    }

    /// Whether something was carried out of an object.
    pub fn has(&self, key: &Key) -> bool {
        self.0.contains_key(&name(key))
    }

    /// Whether an object is wanted otherwise than it was carried out. One that was carried out and is not there was taken away by
    /// somebody else.
    pub fn is_step(&self, object: &Object, is_there: bool) -> bool {
        match self.0.get(&name(&object.key)) {
            None => true,
            Some(last) => is_there && *last != digest(object),
        }
    }

    /// After a pass that wrote some objects of those that are `wanted`, and removed some. Where these are all, nothing is known of
    /// others any more.
    #[must_use]
    pub fn after(
        &self,
        wanted: &Self,
        is_all: bool,
        written: &BTreeSet<Key>,
        removed: &BTreeSet<Key>,
    ) -> Self {
        let [written, removed] =
            [written, removed].map(|keys| keys.iter().map(name).collect::<BTreeSet<_>>());
        let mut digests = self.0.clone();
        digests.retain(|name, _| !removed.contains(name) && (!is_all || wanted.0.contains_key(name)));
        let new = wanted.0.iter().filter(|(name, _)| written.contains(*name));
        digests.extend(new.map(|(name, digest)| (name.clone(), digest.clone())));
        Self(digests)
    }
}

/// `Role default/multinic-agent`.
fn name(key: &Key) -> String {
    let Key { kind, namespace, name } = key;
    let place = namespace.iter().map(|namespace| format!("{namespace}/")).collect::<String>();
    format!("{} {place}{name}", kind.name)
}

/// Of all that is wanted of it. What a Secret holds has no digest: its annotations say when that is another.
fn digest(object: &Object) -> String {
    let mut content = object.content.clone();
    if object.key.kind.name == "Secret"
        && let Some(data) = content.get_mut("data").and_then(Value::as_object_mut)
    {
        data.values_mut().for_each(|value| *value = Value::Null);
    }
    hex(&Sha256::digest(content.to_string()))
}

/// So much of a digest that no two are the same.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;
    use crate::object::Owner;

    fn secret(name: &str, revision: &str, password: &str) -> Object {
        let metadata = json!({"name": name, "annotations": {"revision": revision}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"password": password}});
        Object::new(&Owner::of_tests(), &secret).unwrap()
    }

    #[test]
    fn a_step_is_what_was_never_carried_out_or_is_wanted_otherwise_and_there() {
        let one = secret("one", "1", "a");
        let record = Record::of([&one]);
        assert!(!record.is_step(&one, true) && !record.is_step(&one, false));
        assert!(record.is_step(&secret("one", "2", "a"), true));
        assert!(!record.is_step(&secret("one", "2", "a"), false), "somebody took it away");
        assert!(record.is_step(&secret("two", "1", "a"), false), "it was never made");
        assert_eq!(record, Record::of(&[secret("one", "1", "b")]), "no digest of what is secret");
    }

    #[test]
    fn what_was_not_written_is_known_as_it_was_and_what_nobody_wants_is_forgotten() {
        let before = Record::of(&[secret("one", "1", ""), secret("two", "1", ""), secret("three", "1", "")]);
        let wanted = [secret("one", "2", ""), secret("two", "2", "")];
        let written = BTreeSet::from([wanted[0].key.clone()]);
        let none = BTreeSet::new();
        let after = before.after(&Record::of(&wanted), true, &written, &none);
        assert_eq!(after, Record::of(&[secret("one", "2", ""), secret("two", "1", "")]));
        let of_a_part = before.after(&Record::of(&wanted[..1]), false, &written, &none);
        assert!(of_a_part.has(&secret("three", "1", "").key));
        let removed = BTreeSet::from([secret("three", "1", "").key]);
        let after = before.after(&Record::default(), false, &none, &removed);
        assert!(!after.has(&secret("three", "1", "").key) && after.has(&wanted[0].key));
    }
}
