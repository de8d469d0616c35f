//! The API's description, generated from the code, and its page, which needs no network.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::Config;

use super::http;

/// Everything that the page loads is from here.
const CONTENT_POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

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
///
/// # Errors
/// None that a test would not show.
pub fn openapi_yaml() -> Result<String, serde_saphyr::ser::Error> {
    // By way of a value, whose keys are in a fixed order.
    serde_saphyr::to_string(&serde_json::to_value(openapi()).unwrap_or_default())
}

static YAML: LazyLock<Result<String, String>> =
    LazyLock::new(|| openapi_yaml().map_err(|error| error.to_string()));
// Relative, so that it holds behind a proxy with a prefix of its own.
static PAGES: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::new(["openapi.json"]).persist_authorization(false)));

pub(super) async fn yaml() -> Response {
    match &*YAML {
        Ok(text) => ([(header::CONTENT_TYPE, "application/yaml")], text.as_str()).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.as_str()).into_response(),
    }
}

pub(super) async fn json() -> Response {
    axum::Json(openapi()).into_response()
}

/// The page is at `/docs`, as in the older program, and what it loads below.
pub(super) async fn page() -> Response {
    file("", |page| {
        let page = String::from_utf8_lossy(&page).replace("=\"./", "=\"docs/");
        page.replace("=\"index.css", "=\"docs/index.css").into_bytes()
    })
}

pub(super) async fn part(Path(name): Path<String>) -> Response {
    file(&name, std::convert::identity)
}

fn file(name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Response {
    match utoipa_swagger_ui::serve(name, PAGES.clone()) {
        Ok(Some(found)) => {
            let content =
                if found.gzpipped { found.bytes.into_owned() } else { change(found.bytes.into_owned()) };
            let headers = [
                (header::CONTENT_TYPE, found.content_type),
                (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.to_owned()),
            ];
            let mut response = (headers, content).into_response();
            if found.gzpipped {
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            }
            response
        }
        Ok(None) => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
