//! The page that describes an API, and the description as documents. Neither needs a network.

use std::sync::{Arc, LazyLock};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_swagger_ui::Config;

/// Everything that the page loads is from here.
const CONTENT_POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// Callers may show a bearer token.
pub(crate) struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_with(Default::default).add_security_scheme("bearer", scheme);
    }
}

/// A description as YAML.
pub(crate) type Yaml = LazyLock<Result<String, String>>;
/// A page, made once.
pub(crate) type Page = LazyLock<Arc<Config<'static>>>;

/// The page of the description beside it.
pub(crate) fn page() -> Arc<Config<'static>> {
    // Relative, so that it holds behind a proxy with a prefix of its own.
    Arc::new(Config::new(["openapi.json"]).persist_authorization(false))
}

/// A description as YAML.
pub(crate) fn to_yaml(openapi: &OpenApi) -> Result<String, serde_saphyr::ser::Error> {
    // By way of a value, whose keys are in a fixed order.
    serde_saphyr::to_string(&serde_json::to_value(openapi).unwrap_or_default())
}

/// The description as an answer.
pub(crate) fn yaml(document: &'static Yaml) -> Response {
    match &**document {
        Ok(text) => ([(header::CONTENT_TYPE, "application/yaml")], text.as_str()).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.as_str()).into_response(),
    }
}

/// The page itself, at `/docs` as in the older programs; what it loads is below that.
pub(crate) fn start(page: &Page) -> Option<Response> {
    file(page, "", |page| {
        let page = String::from_utf8_lossy(&page).replace("=\"./", "=\"docs/");
        page.replace("=\"index.css", "=\"docs/index.css").into_bytes()
    })
}

/// One file of the page, changed on the way unless it is compressed; none if there is no such file.
pub(crate) fn file(page: &Page, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Option<Response> {
    let found = match utoipa_swagger_ui::serve(name, Arc::clone(page)) {
        Ok(found) => found?,
        Err(error) => return Some((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()),
    };
    let bytes = found.bytes.into_owned();
    let content = if found.gzpipped { bytes } else { change(bytes) };
    let headers = [
        (header::CONTENT_TYPE, found.content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.to_owned()),
    ];
    let mut response = (headers, content).into_response();
    if found.gzpipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Some(response)
}
