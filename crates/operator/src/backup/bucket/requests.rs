//! What is asked of a bucket. Each request is repeated where that can help, and signed anew then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::Response;
use reqwest::header::ETAG;
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload, ListObjectsV2};
use url::Url;

use super::failure::{Problem, S3Error, WAITS};
use super::settings::Access;

/// A request's signature is good for so long. Servers look at it when the request comes.
const SIGNED: Duration = Duration::from_secs(900);
/// Of an answer that is not a dump. A page of a list has a thousand names.
const MOST: u64 = 16 << 20;
/// A part of a large object, as long as there are not too many of them; a smaller one is sent as it is.
const PART: u64 = 8 << 20;
/// S3 takes no more parts than this.
const MOST_PARTS: u64 = 10_000;

/// Repeats what may pass.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, S3Error>) -> Result<T, S3Error> {
    for wait in WAITS {
        match attempt() {
            Err(error) if error.passes() => {
                tracing::warn!(%error, wait_seconds = wait.as_secs(), "a request to the bucket failed and is repeated");
                std::thread::sleep(wait);
            }
            done => return done,
        }
    }
    attempt()
}

impl Access {
    /// One attempt of a request.
    fn send<'a, A: S3Action<'a>>(&self, action: &A, body: Vec<u8>) -> Result<(Url, Response), S3Error> {
        let url = action.sign(SIGNED);
        let name = A::METHOD.to_str();
        let method = match A::METHOD {
            rusty_s3::Method::Head => Method::HEAD,
            rusty_s3::Method::Get => Method::GET,
            rusty_s3::Method::Post => Method::POST,
            rusty_s3::Method::Put => Method::PUT,
            rusty_s3::Method::Delete => Method::DELETE,
        };
        let sent = self.client.request(method, url.clone()).body(body).send();
        let response = sent.map_err(|error| S3Error::of_connection(name, &url, error))?;
        if !response.status().is_success() {
            return Err(S3Error::of_answer(name, &url, response));
        }
        Ok((url, response))
    }

    /// The same, for the answer's text.
    fn text<'a, A: S3Action<'a>>(&self, action: &A, body: Vec<u8>) -> Result<(Url, String), S3Error> {
        let (url, response) = self.send(action, body)?;
        let mut bytes = Vec::new();
        match response.take(MOST).read_to_end(&mut bytes) {
            // What is no text is none of those that are expected, and its reader says so.
            Ok(_) => Ok((url, String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => Err(S3Error::of_reading(A::METHOD.to_str(), &url, &error)),
        }
    }

    /// The names with this beginning, behind the prefix, and their sizes in bytes.
    pub fn list(&self, beginning: &str) -> Result<BTreeMap<String, u64>, S3Error> {
        let mut names = BTreeMap::new();
        let mut token: Option<String> = None;
        loop {
            let page = patiently(|| {
                let mut action = self.address.list_objects_v2(Some(&self.credentials));
                action.with_prefix(format!("{}{beginning}", self.prefix));
                if let Some(token) = &token {
                    action.with_continuation_token(token.as_str());
                }
                let (url, text) = self.text(&action, Vec::new())?;
                ListObjectsV2::parse_response(&text).map_err(|error| malformed("GET", &url, &error))
            })?;
            for object in page.contents {
                if let Some(name) = object.key.strip_prefix(&self.prefix) {
                    names.insert(name.to_owned(), object.size.unwrap_or_default());
                }
            }
            match page.next_continuation_token {
                None => return Ok(names),
                next => token = next,
            }
        }
    }

    /// A small object. None where there is none of this name.
    pub fn get(&self, name: &str) -> Result<Option<String>, S3Error> {
        let key = self.key(name);
        let got = patiently(|| {
            let action = self.address.get_object(Some(&self.credentials), &key);
            self.text(&action, Vec::new()).map(|(_, text)| text)
        });
        match got {
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            other => other.map(Some),
        }
    }

    /// An object of any size. `begin` gives what it is written into, at each attempt.
    pub fn read<W: Write>(&self, name: &str, mut begin: impl FnMut() -> io::Result<W>) -> Result<W, S3Error> {
        let key = self.key(name);
        patiently(|| {
            let (url, mut response) =
                self.send(&self.address.get_object(Some(&self.credentials), &key), Vec::new())?;
            let file = |error| S3Error::new("GET", &url, Problem::File(error));
            let mut out = begin().map_err(file)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match response.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => out.write_all(buffer.get(..count).unwrap_or_default()).map_err(file)?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(S3Error::of_reading("GET", &url, &error)),
                }
            }
            out.flush().map_err(file)?;
            Ok(out)
        })
    }

    /// Makes an object of this, as a whole.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), S3Error> {
        let key = self.key(name);
        patiently(|| {
            self.send(&self.address.put_object(Some(&self.credentials), &key), bytes.to_vec()).map(drop)
        })
    }

    /// Removes an object, if there is one of this name.
    pub fn delete(&self, name: &str) -> Result<(), S3Error> {
        let key = self.key(name);
        let deleted = patiently(|| {
            self.send(&self.address.delete_object(Some(&self.credentials), &key), Vec::new()).map(drop)
        });
        match deleted {
            Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
            other => other,
        }
    }

    /// Begins an object of this size that comes in parts, if it is so large.
    pub fn begin(&self, name: &str, size: u64) -> Result<Option<String>, S3Error> {
        if size <= PART {
            return Ok(None);
        }
        let key = self.key(name);
        patiently(|| {
            let action = self.address.create_multipart_upload(Some(&self.credentials), &key);
            let (url, text) = self.text(&action, Vec::new())?;
            let begun = CreateMultipartUpload::parse_response(&text)
                .map_err(|error| malformed("POST", &url, &error))?;
            Ok(Some(begun.upload_id().to_owned()))
        })
    }

    /// Makes an object of a file; by parts, if that was begun. There is no object before all of it is there.
    pub fn upload(&self, name: &str, path: &Path, upload: Option<&str>) -> Result<(), S3Error> {
        let url = self.address.object_url(&self.key(name));
        let file = |error| S3Error::new("PUT", &url, Problem::File(error));
        let mut source = File::open(path).map_err(file)?;
        let size = source.metadata().map_err(file)?.len();
        let Some(upload) = upload else {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).map_err(file)?;
            return self.put(name, &bytes);
        };
        let key = self.key(name);
        let length = part_length(size);
        let mut etags = Vec::new();
        for number in 1..=u16::MAX {
            let mut part = Vec::new();
            (&mut source).take(length).read_to_end(&mut part).map_err(file)?;
            if part.is_empty() {
                break;
            }
            etags.push(patiently(|| {
                let action = self.address.upload_part(Some(&self.credentials), &key, number, upload);
                let (url, response) = self.send(&action, part.clone())?;
                let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
                etag.map(str::to_owned).ok_or_else(|| malformed("PUT", &url, &"a part has no ETag"))
            })?);
        }
        let completed = patiently(|| {
            let action = || {
                let etags = etags.iter().map(String::as_str);
                self.address.complete_multipart_upload(Some(&self.credentials), &key, upload, etags)
            };
            let (url, text) = self.text(&action(), action().body().into_bytes())?;
            // A server that takes long says that all is well first, and may say later that it is not.
            match CompleteMultipartUploadResponse::parse(&text) {
                Ok(_) => Ok(()),
                Err(_) if text.contains("<Error>") => {
                    let status = reqwest::StatusCode::INTERNAL_SERVER_ERROR;
                    let now = jiff::Timestamp::now();
                    let problem = super::failure::refused(status, &Default::default(), &text, now);
                    Err(S3Error::new("POST", &url, problem))
                }
                Err(error) => Err(malformed("POST", &url, &error)),
            }
        });
        match completed {
            // The answer to an earlier attempt was lost. What is there is compared in any case.
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            other => other,
        }
    }

    /// Removes the parts of an object that does not come any more.
    pub fn abort(&self, name: &str, upload: &str) -> Result<(), S3Error> {
        let key = self.key(name);
        let aborted = patiently(|| {
            let action = self.address.abort_multipart_upload(Some(&self.credentials), &key, upload);
            self.send(&action, Vec::new()).map(drop)
        });
        match aborted {
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            other => other,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// So that there are not too many.
fn part_length(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART)
}

fn malformed(method: &'static str, url: &Url, reason: &impl ToString) -> S3Error {
    S3Error::new(method, url, Problem::Malformed { reason: reason.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_never_too_many_nor_too_small() {
        for size in [PART + 1, 5 << 30, 200 << 30, 5 << 40] {
            let length = part_length(size);
            assert!(length >= PART && size.div_ceil(length) <= MOST_PARTS, "{size}: {length}");
        }
    }
}
