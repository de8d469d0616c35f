//! The reference of a resource's fields, from its definition.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Both tables, fields and rules, as Markdown.
pub(super) fn of(definition: &CustomResourceDefinition) -> String {
    let spec = &definition.spec;
    let mut text = format!("### {}\n\n", spec.names.kind);
    for version in &spec.versions {
        let short = spec.names.short_names.as_deref().unwrap_or_default().join("`, `");
        let scope = spec.scope.to_lowercase();
        let _ = writeln!(text, "`{}/{}`, {scope}, short `{short}`.", spec.group, version.name);
        let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref())
        else {
            continue;
        };
        let mut page = Page::default();
        page.walk("", schema, false);
        let _ = write!(text, "\n| field | type | what it is |\n|---|---|---|\n{}", page.fields);
        if !page.rules.is_empty() {
            let _ = write!(
                text,
                "\nWhat the API server refuses besides:\n\n| field | message |\n|---|---|\n{}",
                page.rules
            );
        }
    }
    text
}

#[derive(Default)]
struct Page {
    fields: String,
    rules: String,
}

impl Page {
    fn walk(&mut self, path: &str, schema: &JSONSchemaProps, required: bool) {
        // The object as a whole is no field.
        if !path.is_empty() {
            let needed = if required { ", **required**" } else { "" };
            let what = cell(schema.description.as_deref().unwrap_or_default());
            let _ = writeln!(self.fields, "| `{path}` | {}{needed} | {what} |", type_of(schema));
        }
        self.rules(path, schema);
        self.children(path, schema);
    }

    fn children(&mut self, path: &str, schema: &JSONSchemaProps) {
        let required = schema.required.as_deref().unwrap_or_default();
        for (name, property) in schema.properties.iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.walk(&path, property, required.contains(name));
        }
        if let Some(item) = item_of(schema) {
            let path = format!("{path}[]");
            self.rules(&path, item);
            self.children(&path, item);
        }
    }

    fn rules(&mut self, path: &str, schema: &JSONSchemaProps) {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let field = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
            let field = field.trim_start_matches('.');
            let message = cell(rule.message.as_deref().unwrap_or_default());
            let _ = writeln!(self.rules, "| `{field}` | {message} |");
        }
    }
}

fn item_of(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(item) = item_of(schema) {
        let size = match (schema.min_items, schema.max_items) {
            (Some(least), Some(most)) => format!(" ({least} to {most})"),
            (None, Some(most)) => format!(" (at most {most})"),
            _ => String::new(),
        };
        return format!("list{size} of {}", type_of(item));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        return format!("map to {}", type_of(value));
    }
    let values: Vec<String> = schema
        .enum_
        .iter()
        .flatten()
        .filter_map(|value| value.0.as_str())
        .filter(|value| !value.is_empty())
        .map(|value| format!("`{value}`"))
        .collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    let name = schema.type_.as_deref().unwrap_or("any");
    match (schema.minimum, schema.maximum, schema.format.as_deref()) {
        (Some(least), Some(most), _) => format!("{name}, {least} to {most}"),
        (Some(least), None, _) => format!("{name}, at least {least}"),
        (_, _, Some("date-time")) => "time (RFC 3339)".to_owned(),
        _ => name.to_owned(),
    }
}

/// A cell of a table has no line breaks, and no bars of its own.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
