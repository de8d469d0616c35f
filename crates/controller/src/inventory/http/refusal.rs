//! Answers that are not what was asked for: text, in the older program's words where it had the case.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use multinic_store::StoreError;

pub(super) enum Refusal {
    /// 400.
    Bad(String),
    /// 401.
    Unauthenticated,
    /// 403, with the user's name.
    Forbidden(String),
    /// 404.
    NotFound,
    /// 405.
    Method,
    /// 500.
    Store(StoreError),
    /// 503: the inventory is turned off.
    NoStore,
    /// 503: another replica writes the inventory, and this one's is a file of its own.
    StandsBy,
    /// 503: nobody could say whether the reader may read.
    Undecided(String),
    /// 503.
    TooManyWatchers,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthorized".to_owned()),
            Self::Forbidden(user) => {
                let why = format!("forbidden: {user:?} may not get this path (RBAC nonResourceURLs)");
                (StatusCode::FORBIDDEN, why)
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not found".to_owned()),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed".to_owned()),
            Self::Store(error) => {
                tracing::error!(%error, "the inventory cannot be read");
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            Self::NoStore => (StatusCode::SERVICE_UNAVAILABLE, "inventory store not available".to_owned()),
            Self::StandsBy => {
                let why = "this replica does not lead, and its inventory is a file of its own, which is out of date: ask the \
                           one that leads, or keep the inventory in MariaDB";
                (StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
            }
            Self::Undecided(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            Self::TooManyWatchers => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many watches; try again later".to_owned())
            }
        };
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        let value = header::HeaderValue::from_static;
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, value("nosniff"));
        match status {
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, value("Bearer")),
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, value("GET")),
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, value("5")),
            _ => None,
        };
        response
    }
}
