//! How a request to a bucket fails, and what to do then.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multinic_core::brief::{causes, cut};
use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::{DATE, HeaderMap};
use std::io::Read as _;
use url::Url;

/// Of what a server says: a proxy's page may be anything.
const MOST_SAID: usize = 300;
/// Of an answer that is an error, so much is read.
const MOST_READ: u64 = 64 << 10;
/// Servers refuse what was signed by a clock that is so far from theirs, or more.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A request that did not give what was asked for, after all attempts.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url}: {problem}")]
pub struct S3Error {
    /// The HTTP method.
    pub method: &'static str,
    /// The URL, without its query: that holds a signature.
    pub url: String,
    /// What happened.
    pub problem: Problem,
}

/// What happened to a request.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no answer, or not all of it.
    #[error("{reason}; {advice}")]
    NoAnswer {
        /// From the outermost to the innermost cause.
        reason: String,
        /// What to do.
        advice: &'static str,
        /// Whether the same may pass a moment later.
        passing: bool,
    },
    /// The server refused, or failed.
    #[error("status {status}, {code}: {said}; {advice}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's name for it.
        code: String,
        /// The server's words.
        said: String,
        /// What to do.
        advice: String,
    },
    /// It answered something else than S3 does.
    #[error(
        "the answer is none of S3 ({reason}); is the endpoint that of an S3-compatible server, and not of its console?"
    )]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// What is there is not what was sent.
    #[error("what the server gives back is not what it was sent: {reason}")]
    Unequal {
        /// What is different.
        reason: String,
    },
    /// The file beside it cannot be read or written.
    #[error("{0}")]
    File(std::io::Error),
}

const REACH: &str = "is the endpoint right (s3.endpoint, --s3-endpoint) and the server up? Where spec.networkPolicy.enabled is \
                     true, spec.networkPolicy.backupCIDRs has to hold its address";
const TRUST: &str = "its certificate is not by an authority that is trusted here, or for another name: give the authority by \
                     s3.caSecretRef (--s3-ca)";

impl S3Error {
    /// About a request.
    pub(super) fn new(method: &'static str, url: &Url, problem: Problem) -> Self {
        let mut url = url.clone();
        url.set_query(None);
        Self { method, url: url.into(), problem }
    }

    /// There was no answer.
    pub(super) fn of_connection(method: &'static str, url: &Url, error: reqwest::Error) -> Self {
        // A URL is signed.
        Self::new(method, url, no_answer(causes(&error.without_url())))
    }

    /// The answer broke off.
    pub(super) fn of_reading(method: &'static str, url: &Url, error: &std::io::Error) -> Self {
        Self::new(method, url, no_answer(format!("the answer broke off: {error}")))
    }

    /// The server says no.
    pub(super) fn of_answer(method: &'static str, url: &Url, response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        // What is missing of it is missing of the words.
        let _ = response.take(MOST_READ).read_to_end(&mut body);
        let body = String::from_utf8_lossy(&body);
        Self::new(method, url, refused(status, &headers, &body, Timestamp::now()))
    }

    /// Whether the next attempt can end otherwise.
    pub(super) fn passes(&self) -> bool {
        match &self.problem {
            Problem::NoAnswer { passing, .. } => *passing,
            Problem::Refused { status, code, .. } => {
                matches!(status, 429 | 500 | 502 | 503 | 504)
                    || code == "RequestTimeout"
                    || code == "InternalError"
            }
            Problem::Malformed { .. } | Problem::Unequal { .. } | Problem::File(_) => false,
        }
    }

    /// The server's name for what it refused.
    pub(super) fn code(&self) -> Option<&str> {
        match &self.problem {
            Problem::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

fn no_answer(reason: String) -> Problem {
    let is_trust = reason.contains("certificate");
    Problem::NoAnswer { advice: if is_trust { TRUST } else { REACH }, passing: !is_trust, reason }
}

/// What a server says is `<Error><Code>…</Code><Message>…</Message>…</Error>`. More than these is not shown: there are the keys'
/// ids and what was signed among it.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &str, now: Timestamp) -> Problem {
    let code =
        within(body, "Code").unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned());
    let said = within(body, "Message").unwrap_or_else(|| "the server says no more".to_owned());
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let region = within(body, "Region")
        .or_else(|| Some(headers.get("x-amz-bucket-region")?.to_str().ok()?.to_owned()));
    let advice = advice(status, &code, region.as_deref(), date, now);
    Problem::Refused { status: status.as_u16(), code, said: cut(said, MOST_SAID), advice }
}

fn advice(
    status: StatusCode,
    code: &str,
    region: Option<&str>,
    date: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let skewed = date.filter(|date| date.duration_since(now).abs() > SKEW);
    if let (true, Some(date)) = (status.is_client_error(), skewed) {
        return format!("the server's clock says {date} and ours {now:.0}: set the one right that is wrong");
    }
    let keys = "s3.accessKeyIdSecretRef and s3.secretAccessKeySecretRef (--s3-access-key-id-file, \
                --s3-secret-access-key-file)";
    match code {
        "NoSuchBucket" => "make the bucket, or name another (s3.bucket, --s3-bucket)".to_owned(),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken"
        // versitygw's.
        | "XAdminUserNotFound" => {
            format!("the keys are not those of an account there: {keys}")
        }
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "PermanentRedirect" | "TemporaryRedirect" => {
            let region = region.map(|region| format!(", which is {region}")).unwrap_or_default();
            format!("name the bucket's own region{region} (s3.region, --s3-region), and an endpoint of it")
        }
        "RequestTimeTooSkewed" | "RequestExpired" => "set the clock right, here or there".to_owned(),
        _ if status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED => format!(
            "the account needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and \
             s3:AbortMultipartUpload on what is in it; its keys: {keys}"
        ),
        _ if status.is_redirection() => "name the endpoint that it redirects to".to_owned(),
        _ if status.is_server_error() => "that is the server's trouble: look there".to_owned(),
        _ => "is the endpoint that of an S3-compatible server (s3.endpoint, --s3-endpoint), and s3.forcePathStyle right?".to_owned(),
    }
}

/// The text of an element that has no other in it.
fn within(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let mut text = text.trim().to_owned();
    for (escaped, letter) in
        [("&#34;", "\""), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&amp;", "&")]
    {
        text = text.replace(escaped, letter);
    }
    (!text.contains('<') && !text.is_empty()).then_some(text)
}

/// How long to wait before each further attempt: a server that restarts is up again within their sum.
pub(super) const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use super::*;

    fn told(status: u16, body: &str, date: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, date.parse().unwrap());
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        refused(StatusCode::from_u16(status).unwrap(), &headers, body, now).to_string()
    }

    const IN_TIME: &str = "Sun, 22 Nov 2026 12:00:09 GMT";

    fn error(code: &str) -> String {
        format!(
            "<?xml?><Error><Code>{code}</Code><Message>No.</Message><Region>eu-west-1</Region>\
                 <AWSAccessKeyId>AKIA1</AWSAccessKeyId><StringToSign>AWS4 secret</StringToSign></Error>"
        )
    }

    #[test]
    fn what_a_server_refuses_is_told_with_what_to_do() {
        for (code, advice) in [
            ("NoSuchBucket", "s3.bucket"),
            ("SignatureDoesNotMatch", "s3.secretAccessKeySecretRef"),
            ("AccessDenied", "s3:PutObject"),
            ("AuthorizationHeaderMalformed", "which is eu-west-1 (s3.region"),
        ] {
            let told = told(403, &error(code), IN_TIME);
            assert!(told.contains(code) && told.contains("No.") && told.contains(advice), "{told}");
            assert!(!told.contains("AKIA1") && !told.contains("AWS4"), "{told}");
        }
        let page = told(404, "<html><body>nothing here</body></html>", IN_TIME);
        assert!(page.contains("Not Found") && page.contains("s3.endpoint"), "{page}");
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_whatever_the_server_calls_that() {
        for code in ["AccessDenied", "RequestTimeTooSkewed"] {
            let told = told(403, &error(code), "Sun, 22 Nov 2026 12:21:00 GMT");
            assert!(told.contains("12:21:00Z and ours 2026-11-22T12:00:00Z"), "{told}");
        }
        assert!(!told(404, &error("NoSuchBucket"), IN_TIME).contains("clock"));
    }
}
