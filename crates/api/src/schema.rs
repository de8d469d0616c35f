//! What our schemas have in common: no nulls, bounds on every text, and rules whose messages name the fix.
//!
//! Every text has a longest length and every list a greatest number of items: without them the API server estimates
//! what a rule may cost from the largest request that there is, and refuses the whole definition.
//!
//! The rules use what the expression language has in Kubernetes 1.30. `isIP()` and `isCIDR()` came with that version,
//! but a server takes new rules only with the functions of the version before its own, so they are patterns here.

use kube::core::Rule;
use schemars::Schema;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Value, json};

/// The key of the rules in a schema.
const RULES: &str = "x-kubernetes-validations";

/// Longest name or id of OpenStack or Kubernetes: Nova's and Neutron's columns have 255 characters.
pub(crate) const NAME: u64 = 255;
/// Longest URL or path.
pub(crate) const PLACE: u64 = 2048;
/// Longest secret: Keystone takes passwords of up to 4096 characters.
pub(crate) const SECRET: u64 = 4096;

/// The name of a bucket of S3. Older ones may have capitals and be longer than the 63 characters of today.
const BUCKET: &str = r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$";
/// A duration as the older programs read it: Go's form, also without a unit for zero. Blank is absent.
const DURATION: &str = r"^\s*([+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h)([0-9]+([.][0-9]*)?(ns|us|µs|μs|ms|s|m|h))*|[+-]?0)?\s*$";
/// A URL with a host and without credentials in it, which would be shown in logs. Blank is absent.
const URL: &str = r"^\s*((?i:https?)://[^\s/?#@]+([/?#]\S*)?)?\s*$";
/// Looks like an IPv4 or an IPv6 address; the agent looks closer. Empty is absent.
const ADDRESS: &str = r"^([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)?$";
/// The same with a prefix length.
const CIDR: &str = r"^(([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)/[0-9]{1,3})?$";
/// A quantity of Kubernetes, such as `500m` or `10Gi`. Empty is absent.
const QUANTITY: &str = r"^([+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?)?$";

/// Takes `null` and defaults out of a schema and of everything in it.
///
/// `null` was never allowed, and the older programs' definitions had no defaults: what is absent is the controller's
/// choice, and an object that was written is read back as it was written.
pub(crate) fn plain(schema: &mut Schema) {
    transform_subschemas(&mut plain, schema);
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("default");
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(mut variants)) = object.remove("anyOf") else { return };
    variants.retain(|variant| variant.get("type") != Some(&json!("null")));
    match <[Value; 1]>::try_from(variants) {
        // The field's own description stands, not that of its type.
        Ok([Value::Object(only)]) => {
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
        Ok([other]) => drop(object.insert("anyOf".to_owned(), json!([other]))),
        Err(variants) => drop(object.insert("anyOf".to_owned(), Value::Array(variants))),
    }
}

/// A text of limited length.
pub(crate) fn text(longest: u64) -> impl Transform {
    move |schema: &mut Schema| {
        schema.insert("maxLength".to_owned(), longest.into());
    }
}

/// A text that is one of these, or empty, which is as if it were absent.
pub(crate) fn one_of(values: &'static [&'static str]) -> impl Transform {
    move |schema: &mut Schema| {
        let values: Vec<&str> = [""].iter().chain(values).copied().collect();
        schema.insert("enum".to_owned(), values.into());
    }
}

/// An atomic list of texts.
pub(crate) fn texts(most: u64, longest: u64) -> impl Transform {
    move |schema: &mut Schema| {
        schema.insert("maxItems".to_owned(), most.into());
        schema.insert("x-kubernetes-list-type".to_owned(), "atomic".into());
        if let Some(items) = schema.get_mut("items").and_then(Value::as_object_mut) {
            items.insert("maxLength".to_owned(), longest.into());
        }
    }
}

/// An atomic list of texts of which none is blank.
pub(crate) fn filled_texts(most: u64, longest: u64, message: &'static str) -> impl Transform {
    move |schema: &mut Schema| {
        texts(most, longest).transform(schema);
        add_to_items(schema, Rule::new("self.trim() != ''").message(message));
    }
}

/// A duration.
pub(crate) fn duration(schema: &mut Schema) {
    matching(schema, 64, DURATION, "must be a duration such as 30s, 2m or 1h30m");
}

/// A URL.
pub(crate) fn url(schema: &mut Schema) {
    let message = "must be an http:// or https:// URL with a host, and without a user name or password";
    matching(schema, PLACE, URL, message);
}

/// A bucket.
pub(crate) fn bucket(schema: &mut Schema) {
    matching(
        schema,
        255,
        BUCKET,
        "must be the name of a bucket: letters, digits, dots, - and _, and no URL or path",
    );
}

/// An IP address.
pub(crate) fn address(schema: &mut Schema) {
    matching(
        schema,
        45,
        ADDRESS,
        "must be an IP address such as 10.0.0.10 or fd00::10, without a prefix length",
    );
}

/// An IP address with a prefix length.
pub(crate) fn cidr(schema: &mut Schema) {
    matching(schema, 49, CIDR, CIDR_MESSAGE);
}

const CIDR_MESSAGE: &str =
    "must be an IP address with its prefix length, such as 10.0.0.10/24 or fd00::10/64";

/// A list of IP addresses with their prefix lengths.
pub(crate) fn cidrs(schema: &mut Schema) {
    texts(64, 49).transform(schema);
    let rule = Rule::new(format!("self != '' && self.matches({})", quoted(CIDR))).message(CIDR_MESSAGE);
    add_to_items(schema, rule);
}

/// A quantity.
pub(crate) fn quantity(schema: &mut Schema) {
    matching(schema, 64, QUANTITY, "must be a quantity such as 500m, 128Mi or 10Gi");
}

/// Settings of a program: names of environment variables, and texts.
pub(crate) fn settings(schema: &mut Schema) {
    schema.insert("maxProperties".to_owned(), 128.into());
    if let Some(values) = schema.get_mut("additionalProperties").and_then(Value::as_object_mut) {
        values.insert("maxLength".to_owned(), SECRET.into());
    }
    let rule = Rule::new("self.all(name, name.matches('^[A-Z][A-Z0-9_]{0,63}$'))")
        .message("must be environment variables in capitals, such as VIOLA_ENDPOINT");
    add(schema, rule);
}

/// A list of conditions, one of each type.
pub(crate) fn conditions(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
}

fn matching(schema: &mut Schema, longest: u64, pattern: &str, message: &str) {
    text(longest).transform(schema);
    add(schema, Rule::new(format!("self.matches({})", quoted(pattern))).message(message));
}

/// As a raw text of the expression language, in which a backslash is only that.
fn quoted(pattern: &str) -> String {
    format!("r'{pattern}'")
}

fn add(schema: &mut Schema, rule: Rule) {
    if let (Some(object), Ok(rule)) = (schema.as_object_mut(), serde_json::to_value(rule)) {
        push(object, rule);
    }
}

fn add_to_items(schema: &mut Schema, rule: Rule) {
    let items = schema.get_mut("items").and_then(Value::as_object_mut);
    if let (Some(items), Ok(rule)) = (items, serde_json::to_value(rule)) {
        push(items, rule);
    }
}

fn push(object: &mut serde_json::Map<String, Value>, rule: Value) {
    if let Value::Array(rules) = object.entry(RULES).or_insert_with(|| json!([])) {
        rules.push(rule);
    }
}
