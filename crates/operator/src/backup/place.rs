//! Where the backups of a spec are: on a claim, or in a bucket. Pure.

use k8s_openapi::api::core::v1::Pod;
use multinic_api::operator::{BackupSpec, LastBackup, S3Target};

use super::bucket::{REGION, location};
use crate::desired::given;

/// The claim that the operator makes.
const CLAIM: &str = "multinic-backups";
/// The container that makes backups.
pub(crate) const CONTAINER: &str = "backup";

/// Where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A PersistentVolumeClaim of this name.
    Claim(String),
    /// A bucket.
    Bucket {
        /// As the status names it.
        location: String,
        /// As `multinic backup` is told of it: where it is, and how it is asked.
        arguments: Vec<String>,
    },
}

impl Place {
    /// That of a spec.
    pub fn of(spec: &BackupSpec) -> Self {
        let Some(s3) = &spec.s3 else {
            return Self::Claim(given(spec.claim_name.as_ref()).unwrap_or(CLAIM).to_owned());
        };
        let S3Target {
            endpoint,
            allow_http,
            bucket,
            prefix,
            region,
            force_path_style,
            access_key_id_secret_ref: _,
            secret_access_key_secret_ref: _,
            ca_secret_ref: _,
        } = s3;
        let endpoint = given(endpoint.as_ref());
        let region = given(region.as_ref()).unwrap_or(REGION);
        let prefix = given(prefix.as_ref()).unwrap_or_default();
        // All that is a part of the place is there, also where it is empty: so a pod tells which place is its own.
        let mut arguments = vec![format!("--s3-bucket={}", bucket.trim()), format!("--s3-prefix={prefix}")];
        arguments.push(format!("--s3-region={region}"));
        arguments.extend(endpoint.map(|url| format!("--s3-endpoint={url}")));
        arguments.extend(force_path_style.map(|is_wanted| format!("--s3-path-style={is_wanted}")));
        if *allow_http == Some(true) {
            arguments.push("--s3-allow-http".to_owned());
        }
        Self::Bucket { location: location(endpoint, region, bucket.trim(), prefix), arguments }
    }

    /// Whether a pod makes backups there.
    pub fn is_of(&self, pod: &Pod) -> bool {
        let spec = pod.spec.iter();
        match self {
            Self::Claim(claim) => spec
                .flat_map(|spec| spec.volumes.iter().flatten())
                .filter_map(|volume| volume.persistent_volume_claim.as_ref())
                .any(|volume| volume.claim_name == *claim),
            Self::Bucket { arguments, .. } => spec
                .flat_map(|spec| &spec.containers)
                .filter(|container| container.name == CONTAINER)
                .filter_map(|container| container.args.as_ref())
                .any(|args| {
                    // An endpoint is named where it is not Amazon's.
                    is_place_in(args).eq(is_place_in(arguments))
                }),
        }
    }

    /// Tells where a backup is.
    pub(super) fn note(&self, backup: LastBackup) -> LastBackup {
        match self {
            Self::Claim(claim) => LastBackup { claim_name: Some(claim.clone()), location: None, ..backup },
            Self::Bucket { location, .. } => {
                LastBackup { claim_name: None, location: Some(location.clone()), ..backup }
            }
        }
    }

    /// Whether a backup is there. Where an earlier version did not say on which claim one is, it is on this one.
    pub(super) fn has(&self, backup: &LastBackup) -> bool {
        let LastBackup { claim_name, location: under, .. } = backup;
        match self {
            Self::Claim(claim) => under.is_none() && claim_name.as_ref().is_none_or(|it| it == claim),
            Self::Bucket { location, .. } => under.as_ref() == Some(location),
        }
    }
}

/// Those arguments that tell where a bucket is, and not how it is asked.
fn is_place_in(arguments: &[String]) -> impl Iterator<Item = &String> {
    const OF_PLACE: [&str; 4] = ["--s3-bucket=", "--s3-prefix=", "--s3-region=", "--s3-endpoint="];
    arguments.iter().filter(|argument| OF_PLACE.iter().any(|name| argument.starts_with(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::{Value, json};

    use super::*;

    fn place(change: &Value) -> Place {
        let reference = json!({"name": "a", "key": "b"});
        let mut s3 =
            json!({"bucket": "b", "accessKeyIdSecretRef": reference, "secretAccessKeySecretRef": reference});
        for (name, value) in change.as_object().unwrap() {
            s3.as_object_mut().unwrap().insert(name.clone(), value.clone());
        }
        Place::of(&serde_json::from_value(json!({"schedule": "0 3 * * *", "s3": s3})).unwrap())
    }

    fn pod(place: &Place) -> Pod {
        let Place::Bucket { arguments, .. } = place else { return Pod::default() };
        let mut args = vec!["--work=/work".to_owned()];
        args.extend(arguments.iter().cloned());
        args.push("--keep-count=14".to_owned());
        let container = json!({"name": "backup", "args": args});
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).unwrap()
    }

    #[test]
    fn a_place_is_told_by_where_it_is_and_not_by_how_it_is_asked() {
        let one = place(&json!({"endpoint": "https://minio.example:9000/", "prefix": "/clusters/one/"}));
        let Place::Bucket { location, .. } = &one else {
            return assert_eq!(one, Place::Claim(String::new()));
        };
        assert_eq!(location, "https://minio.example:9000/b/clusters/one/");
        let same = json!({"endpoint": "https://minio.example:9000/", "prefix": "/clusters/one/", "allowHttp": true,
            "forcePathStyle": false});
        assert!(one.is_of(&pod(&one)) && one.is_of(&pod(&place(&same))));
        for other in
            [json!({}), json!({"endpoint": "https://minio.example:9000/"}), json!({"prefix": "clusters/one"})]
        {
            assert!(!one.is_of(&pod(&place(&other))) && !place(&other).is_of(&pod(&one)), "{other}");
        }
        assert!(!Place::Claim("mine".to_owned()).is_of(&pod(&one)));
        let Place::Bucket { location, .. } = place(&json!({"region": "eu-west-1"})) else { return };
        assert_eq!(location, "https://s3.eu-west-1.amazonaws.com/b/");
    }
}
