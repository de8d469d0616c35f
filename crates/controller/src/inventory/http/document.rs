//! The API's description, generated from the code, and its pages, which need no network.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::Config;

use super::refusal::Refusal;
use super::{records, schemas, watch};

/// Everything that the pages load is from here.
const CONTENT_POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

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

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_with(Default::default).add_security_scheme("bearer", scheme);
    }
}

/// The description, OpenAPI 3.1.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The same as YAML.
pub fn openapi_yaml() -> Result<String, serde_saphyr::ser::Error> {
    // By way of a value, whose keys are in a fixed order.
    serde_saphyr::to_string(&serde_json::to_value(openapi()).unwrap_or_default())
}

static YAML: LazyLock<Result<String, String>> =
    LazyLock::new(|| openapi_yaml().map_err(|error| error.to_string()));
static PAGES: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::new(["/openapi.json"]).persist_authorization(false)));

pub(super) async fn yaml() -> Response {
    match &*YAML {
        Ok(text) => ([(header::CONTENT_TYPE, "application/yaml")], text.as_str()).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.as_str()).into_response(),
    }
}

pub(super) async fn json() -> Response {
    axum::Json(openapi()).into_response()
}

pub(super) async fn to_docs() -> Redirect {
    // Relative, so that it holds behind a proxy with a prefix of its own.
    Redirect::permanent("docs/")
}

pub(super) async fn docs(file: Option<Path<String>>) -> Response {
    let file = file.map(|Path(file)| file).unwrap_or_default();
    match utoipa_swagger_ui::serve(&file, PAGES.clone()) {
        Ok(Some(found)) => {
            let mut response = (
                [
                    (header::CONTENT_TYPE, found.content_type),
                    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.to_owned()),
                ],
                found.bytes.into_owned(),
            )
                .into_response();
            if found.gzpipped {
                let gzip = header::HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            }
            response
        }
        Ok(None) => Refusal::NotFound.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
