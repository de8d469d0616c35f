//! The definitions of our resources, as they are put into a cluster.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt as _, ResourceExt as _};

use crate::{MultiNicNodeConfig, MultiNicOperator, OpenstackConfig};

/// One definition as YAML.
#[derive(Debug, Clone)]
pub struct Document {
    /// The name of its file under `deploy/crds`.
    pub file_name: String,
    /// The document, which begins with `---`.
    pub yaml: String,
}

/// A definition that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// As JSON.
    #[error("cannot write the definition {name} as JSON: {source}")]
    Json {
        /// The definition.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// As YAML.
    #[error("cannot write the definition {name} as YAML: {source}")]
    Yaml {
        /// The definition.
        name: String,
        /// Why.
        source: serde_saphyr::SerializeError,
    },
}

/// All definitions, in a stable order.
pub fn all() -> [CustomResourceDefinition; 3] {
    [OpenstackConfig::crd(), MultiNicNodeConfig::crd(), MultiNicOperator::crd()]
}

/// All definitions as YAML, in the same order.
///
/// # Errors
/// Where one cannot be written; none of those that are there.
pub fn documents() -> Result<Vec<Document>, DefinitionError> {
    all().iter().map(document).collect()
}

fn document(definition: &CustomResourceDefinition) -> Result<Document, DefinitionError> {
    let name = definition.name_any();
    // By way of a value: its keys are sorted, whatever becomes of the order of the fields in a struct.
    let value = serde_json::to_value(definition)
        .map_err(|source| DefinitionError::Json { name: name.clone(), source })?;
    let yaml = serde_saphyr::to_string(&value).map_err(|source| DefinitionError::Yaml { name, source })?;
    // As controller-gen calls such files, so that they are found where people look for them.
    let file_name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
    Ok(Document { file_name, yaml: format!("---\n{yaml}") })
}
