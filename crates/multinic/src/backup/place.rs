//! Where backups are: a folder, or a bucket of S3. Its keys are no arguments, which everybody on the machine can read.

use std::fs;
use std::path::{Path, PathBuf};

use multinic_operator::backup::BackupError;
use multinic_operator::backup::archive::Archive;
use multinic_operator::backup::bucket::{Bucket, BucketSettings, REGION};
use multinic_operator::backup::folder::Folder;
use secrecy::SecretString;

/// Where backups are.
#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// The folder with the backups.
    #[arg(long, conflicts_with = "s3_bucket", required_unless_present = "s3_bucket")]
    folder: Option<PathBuf>,
    /// The bucket with the backups, on an S3-compatible server, in place of a folder.
    #[arg(long, value_name = "NAME")]
    s3_bucket: Option<String>,
    /// The server's URL. [default: that of Amazon S3 in the region]
    #[arg(long, value_name = "URL", requires = "s3_bucket")]
    s3_endpoint: Option<String>,
    /// Let the URL be one of http://: everybody on the way can read the backups then.
    #[arg(long, requires = "s3_bucket")]
    s3_allow_http: bool,
    /// What names of objects begin with, such as clusters/one.
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    s3_prefix: String,
    /// The region that requests are signed for.
    #[arg(long, value_name = "NAME", default_value = REGION)]
    s3_region: String,
    /// Whether the bucket is in the URL's path and not in its host [default: true where an endpoint is given].
    #[arg(long, value_name = "BOOL", requires = "s3_bucket")]
    s3_path_style: Option<bool>,
    /// A file with authorities in PEM, to trust beside the system's.
    #[arg(long, value_name = "FILE", requires = "s3_bucket")]
    s3_ca: Option<PathBuf>,
    /// A file with the access key's id, in place of AWS_ACCESS_KEY_ID.
    #[arg(long, value_name = "FILE", requires_all = ["s3_bucket", "s3_secret_access_key_file"])]
    s3_access_key_id_file: Option<PathBuf>,
    /// A file with the secret access key, in place of AWS_SECRET_ACCESS_KEY.
    #[arg(long, value_name = "FILE", requires_all = ["s3_bucket", "s3_access_key_id_file"])]
    s3_secret_access_key_file: Option<PathBuf>,
}

impl PlaceArgs {
    /// The place.
    ///
    /// # Errors
    /// Where a bucket cannot be used as it is given.
    pub fn archive(self) -> Result<Box<dyn Archive>, BackupError> {
        let Self {
            folder,
            s3_bucket,
            s3_endpoint: endpoint,
            s3_allow_http: allow_http,
            s3_prefix: prefix,
            s3_region: region,
            s3_path_style: path_style,
            s3_ca: ca_file,
            s3_access_key_id_file,
            s3_secret_access_key_file,
        } = self;
        if let Some(folder) = folder {
            return Ok(Box::new(Folder::new(&folder)));
        }
        let files = [&s3_access_key_id_file, &s3_secret_access_key_file];
        // A token belongs to the keys that it comes with.
        let session_token =
            if files.iter().all(|file| file.is_none()) { variable("AWS_SESSION_TOKEN") } else { None };
        let [access_key_id, secret_access_key] =
            [(files[0], "AWS_ACCESS_KEY_ID"), (files[1], "AWS_SECRET_ACCESS_KEY")].map(|(file, name)| {
                match file {
                    Some(file) => read(file),
                    None => Ok(variable(name).unwrap_or_default()),
                }
            });
        let settings = BucketSettings {
            endpoint,
            allow_http,
            bucket: s3_bucket.unwrap_or_default(),
            prefix,
            region,
            path_style,
            ca_file,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            session_token,
        };
        Ok(Box::new(Bucket::new(&settings)?))
    }
}

fn read(path: &Path) -> Result<SecretString, BackupError> {
    let text = fs::read_to_string(path);
    text.map(SecretString::from).map_err(|source| BackupError::File { path: path.to_owned(), source })
}

fn variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty()).map(SecretString::from)
}
