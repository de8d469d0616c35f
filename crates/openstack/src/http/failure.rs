//! How a request fails.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use url::Url;

use super::excerpt::Excerpt;

/// A request that did not give what was asked for, after all attempts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method} {url}: {problem}")]
pub struct RequestError {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The URL, without user information and with a long query cut.
    pub url: String,
    /// What happened. Boxed, since errors travel through everything.
    pub problem: Box<Problem>,
    /// What the server asked us to wait before the next attempt.
    pub(crate) wait: Option<Duration>,
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing, for too long.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// There was no connection: name, route, refusal or TLS.
    #[error("no connection: {reason}")]
    NoConnection {
        /// The cause, from the outermost to the innermost.
        reason: String,
        /// It was cut or refused, which passes, and not a matter of names or certificates, which does not.
        passing: bool,
    },
    /// The connection ended in the middle.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server refused or failed.
    #[error("status {status}, {said}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: Excerpt,
    },
    /// The server sent us elsewhere. We don't follow: a token must not travel to a host that nobody configured.
    #[error("status {status} redirects to {location:?}; configure that URL if it is right")]
    Redirect {
        /// The HTTP status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// A success with something else in it.
    #[error("status {status} with something other than {wanted} ({reason}): {said}")]
    Malformed {
        /// The HTTP status.
        status: u16,
        /// What should have come.
        wanted: &'static str,
        /// What is wrong with what came.
        reason: String,
        /// What came.
        said: Excerpt,
    },
    /// More than we are ready to hold.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl RequestError {
    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match *self.problem {
            Problem::Status { status, .. }
            | Problem::Redirect { status, .. }
            | Problem::Malformed { status, .. } => Some(status),
            Problem::Timeout(_)
            | Problem::NoConnection { .. }
            | Problem::Broken(_)
            | Problem::TooLarge(_) => None,
        }
    }

    /// Whether the service itself answered 404 with this name of the error.
    pub(crate) fn is_absence(&self, name: &str) -> bool {
        matches!(&*self.problem, Problem::Status { status: 404, said } if said.kind.as_deref() == Some(name))
    }

    /// Whether the next attempt can end otherwise.
    pub(crate) fn passes(&self) -> bool {
        match *self.problem {
            Problem::Timeout(_) | Problem::Broken(_) => true,
            Problem::NoConnection { passing, .. } => passing,
            Problem::Status { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Problem::Redirect { .. } | Problem::Malformed { .. } | Problem::TooLarge(_) => false,
        }
    }
}

impl Problem {
    /// What reqwest calls it.
    pub(super) fn of(error: &reqwest::Error, limit: Duration) -> Self {
        if error.is_timeout() {
            return Self::Timeout(limit);
        }
        let mut reasons: Vec<String> = Vec::new();
        let mut passing = false;
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                passing |= matches!(
                    io.kind(),
                    ErrorKind::ConnectionRefused
                        | ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::BrokenPipe
                        | ErrorKind::UnexpectedEof
                        | ErrorKind::TimedOut
                );
            }
            let text = inner.to_string();
            // Wrappers repeat what they wrap.
            if !reasons.iter().any(|earlier| earlier.contains(&text)) {
                reasons.push(text);
            }
            cause = inner.source();
        }
        let reason = reasons.join(": ");
        if error.is_connect() { Self::NoConnection { reason, passing } } else { Self::Broken(reason) }
    }
}

/// A URL as errors and logs show it.
pub(crate) struct Shown<'a>(pub &'a Url);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query of 28 device ids says no more than its beginning.
        const QUERY: usize = 160;
        let url = self.0;
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        match url.query().map(|query| (query, query.get(..QUERY))) {
            Some((_, Some(beginning))) => write!(f, "?{beginning}…"),
            Some((query, None)) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password_and_a_short_query() {
        let url: Url = format!("http://me:pw@host:8080/a?q={}", "x".repeat(1000)).parse().unwrap();
        let shown = Shown(&url).to_string();
        assert!(shown.starts_with("http://host:8080/a?q=xx") && shown.len() < 250, "{shown}");
    }
}
