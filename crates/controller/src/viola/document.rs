//! The API's description, generated from the code, and its page.

use std::convert::identity;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::http;
use crate::page::{self, Page, Tokens, Yaml};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "MultiNIC Viola API",
        description = "Takes nodes with their NICs and makes MultiNicNodeConfig objects of them, in the cluster that \
                       x-provider-id leads to."
    ),
    paths(http::node_configs),
    modifiers(&Tokens)
)]
struct Document;

/// The description, OpenAPI 3.1.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The same as YAML.
///
/// # Errors
/// None that a test would not show.
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

pub(super) async fn page() -> Response {
    or_not_found(page::start(&PAGE))
}

pub(super) async fn part(Path(name): Path<String>) -> Response {
    or_not_found(page::file(&PAGE, &name, identity))
}

fn or_not_found(found: Option<Response>) -> Response {
    found.unwrap_or_else(|| (StatusCode::NOT_FOUND, "404 page not found\n").into_response())
}
