//! Where backups go that are on no volume.

use kube::KubeSchema;
use kube::core::{Reason, Rule};
use serde::{Deserialize, Serialize};

use crate::{SecretKeyRef, schema};

/// `spec.database.backup.s3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = encrypted(), validation = prefix())]
pub struct S3Target {
    /// The server's URL, such as `https://minio.example:9000`; absent, that of Amazon in the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::url)]
    pub endpoint: Option<String>,
    /// Whether the endpoint may be an `http://` URL: everybody on the way can read the backups then; no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
    /// The bucket, which has to be there.
    #[schemars(transform = schema::bucket)]
    pub bucket: String,
    /// What the names of objects begin with, such as `clusters/one`: several clusters may share a bucket then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(MOST_PREFIX))]
    pub prefix: Option<String>,
    /// The region that requests are signed for; us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text(64))]
    pub region: Option<String>,
    /// Whether the bucket is in the URL's path and not in its host; it is where an endpoint is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// The id of the access key.
    pub access_key_id_secret_ref: SecretKeyRef,
    /// The secret access key.
    pub secret_access_key_secret_ref: SecretKeyRef,
    /// The authority that signed the server's certificate, in PEM, to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// An object's name has at most 1024 bytes, and a character of a prefix up to four.
const MOST_PREFIX: u64 = 200;

/// The scheme of a URL may be written in capitals.
fn encrypted() -> Rule {
    Rule::new(
        "!has(self.endpoint) || !self.endpoint.trim().lowerAscii().startsWith('http://') || (has(self.allowHttp) && self.allowHttp)",
    )
    .field_path(".endpoint")
    .reason(Reason::FieldValueInvalid)
    .message("without TLS everybody on the way can read the backups: use an https:// URL, or set allowHttp to true")
}

/// A URL does not hold such parts.
fn prefix() -> Rule {
    Rule::new("!has(self.prefix) || !(self.prefix.contains('//') || self.prefix.matches('(^|/)[.]+(/|$)'))")
        .field_path(".prefix")
        .reason(Reason::FieldValueInvalid)
        .message("no part of it may be empty or of dots only: write it as clusters/one")
}

/// A backup is on a volume or in a bucket.
pub(super) fn one_target() -> Rule {
    Rule::new(
        "!has(self.s3) || !((has(self.claimName) && self.claimName.trim() != '') || (has(self.storageSize) && self.storageSize != ''))",
    )
    .field_path(".s3")
    .reason(Reason::FieldValueForbidden)
    .message(
        "s3 is in place of a volume: take claimName and storageSize away, or s3 to keep backups on the volume",
    )
}
