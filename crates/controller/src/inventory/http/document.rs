//! The API's description, generated from the code, and its pages.

use std::convert::identity;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use utoipa::OpenApi;

use super::refusal::Refusal;
use super::{records, schemas, watch};
use crate::page::{self, Page, Tokens, Yaml};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "MultiNIC inventory",
        description = "What was published for each node, and what became of it. Read-only."
    ),
    paths(
        records::providers,
        records::of_provider,
        records::of_instance,
        watch::watch,
        records::of_all,
        records::of_node
    ),
    components(schemas(schemas::RecordBody)),
    modifiers(&Tokens)
)]
struct Document;

/// The description, OpenAPI 3.1.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The same as YAML.
pub fn openapi_yaml() -> Result<String, serde_saphyr::ser::Error> {
    page::to_yaml(&openapi())
}

static YAML: Yaml = Yaml::new(|| openapi_yaml().map_err(|error| error.to_string()));
static PAGE: Page = Page::new(page::page);

pub(super) async fn yaml() -> Response {
    page::yaml(&YAML)
}

pub(super) async fn json() -> Response {
    axum::Json(openapi()).into_response()
}

pub(super) async fn docs() -> Response {
    page::start(&PAGE).unwrap_or_else(|| Refusal::NotFound.into_response())
}

pub(super) async fn to_docs() -> Redirect {
    Redirect::permanent("../docs")
}

pub(super) async fn part(Path(name): Path<String>) -> Response {
    page::file(&PAGE, &name, identity).unwrap_or_else(|| Refusal::NotFound.into_response())
}
