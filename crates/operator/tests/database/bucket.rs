//! Backups in a bucket of a real S3-compatible server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use multinic_operator::backup::archive::{Archive, LATEST, Record, Retention};
use multinic_operator::backup::bucket::{Bucket, BucketSettings};
use multinic_operator::backup::{BackupError, Restored, Restoring, make, restore};
use multinic_testbed::s3::{ACCESS_KEY_ID, REGION, S3Server, SECRET_ACCESS_KEY};
use sha2::{Digest as _, Sha256};

use crate::backup::{KEEP_ALL, Scene};

const PREFIX: &str = "clusters/one";
/// A busy machine needs a part of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than one part.
const LARGE: usize = 40 << 20;

/// A server with a bucket. What is asked of it is asked without a runtime, as `multinic backup` does.
struct Stage {
    server: S3Server,
    /// Where the objects are.
    objects: PathBuf,
    work: tempfile::TempDir,
}

impl Stage {
    fn new() -> Option<Self> {
        Self::of(S3Server::start)
    }

    fn of(start: impl Fn() -> Result<S3Server, multinic_testbed::s3::S3ServerError>) -> Option<Self> {
        if !S3Server::installed() {
            return None;
        }
        let server = start().unwrap();
        let objects = server.make_bucket("backups").unwrap();
        Some(Self { server, objects, work: tempfile::tempdir().unwrap() })
    }

    fn settings(&self) -> BucketSettings {
        BucketSettings {
            endpoint: Some(self.server.endpoint()),
            allow_http: true,
            bucket: "backups".to_owned(),
            prefix: PREFIX.to_owned(),
            region: REGION.to_owned(),
            path_style: None,
            ca_file: None,
            access_key_id: ACCESS_KEY_ID.into(),
            // As an editor leaves it.
            secret_access_key: format!("{SECRET_ACCESS_KEY}\n").into(),
            session_token: None,
        }
    }

    fn bucket(&self) -> Bucket {
        Bucket::new(&self.settings()).unwrap()
    }

    /// A dump of this many bytes, begun so long ago, which was verified.
    fn dump(&self, size: usize, ago: SignedDuration) -> (PathBuf, Record) {
        let time = Timestamp::from_second((Timestamp::now() - ago).as_second()).unwrap();
        let bytes: Vec<u8> = (0..size).map(|at| (at / 1000 + at) as u8).collect();
        let path = self.work.path().join(Record::name(time));
        fs::write(&path, &bytes).unwrap();
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let record = Record {
            file: Record::name(time),
            time,
            database: "multinic".to_owned(),
            size: size as u64,
            sha256,
            tables: BTreeMap::from([("multi_interface".to_owned(), 3)]),
        };
        (path, record)
    }

    fn kept(&self, ago: SignedDuration) -> Record {
        let (path, record) = self.dump(1000, ago);
        self.bucket().keep(&path, &record).unwrap();
        record
    }

    fn object(&self, name: &str) -> PathBuf {
        self.objects.join(PREFIX).join(name)
    }

    /// The names of all objects and of all parts that are no object yet.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        files(&self.objects, &mut names);
        let mut names: Vec<String> = names
            .iter()
            .map(|path| path.strip_prefix(&self.objects).unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    /// Uploads a large dump, and does something to the server once a part of it is there.
    fn interrupted(
        &mut self,
        (path, record): &(PathBuf, Record),
        meanwhile: impl FnOnce(&mut S3Server),
    ) -> Result<(), BackupError> {
        let bucket = self.bucket();
        std::thread::scope(|scope| {
            let upload = scope.spawn(|| bucket.keep(path, record));
            let deadline = Instant::now() + PATIENCE;
            while !self.server.log().contains("partNumber=1") {
                assert!(Instant::now() < deadline && !upload.is_finished(), "{}", self.server.log());
                std::thread::sleep(Duration::from_millis(1));
            }
            meanwhile(&mut self.server);
            upload.join().unwrap()
        })
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn error<T>(done: Result<T, BackupError>) -> String {
    let error = done.err().expect("it is refused").to_string();
    for secret in [SECRET_ACCESS_KEY, "Signature=", ACCESS_KEY_ID] {
        assert!(!error.contains(secret), "{secret} is in {error}");
    }
    error
}

#[test]
fn a_dump_of_many_parts_is_one_object_and_comes_back_as_it_was() {
    let Some(stage) = Stage::new() else { return };
    let (path, record) = stage.dump(LARGE, hours(1));
    let bucket = stage.bucket();
    assert_eq!(bucket.records().unwrap(), []);
    bucket.keep(&path, &record).unwrap();
    let own = format!("{PREFIX}/{}", record.file);
    assert_eq!(stage.names(), [own.clone(), format!("{own}.json")]);
    assert!(stage.server.log().contains("partNumber=5"), "{}", stage.server.log());
    assert_eq!(bucket.records().unwrap(), std::slice::from_ref(&record));
    assert_eq!(bucket.find(LATEST, "multinic", Timestamp::now()).unwrap(), record);
    let into = tempfile::tempdir().unwrap();
    let fetched = bucket.fetch(&record, into.path()).unwrap();
    assert!(fs::read(fetched).unwrap() == fs::read(path).unwrap(), "it is another");
}

#[test]
fn what_is_beyond_the_retention_goes_and_what_is_of_others_stays() {
    let Some(stage) = Stage::new() else { return };
    let [old, kept, new] = [hours(30), hours(20), hours(10)].map(|ago| stage.kept(ago));
    let others = ["notes.txt", "multinic-19700105T000000Z.sql", "multinic-mine.sql.json"];
    others.iter().for_each(|name| fs::write(stage.object(name), [b'{', 0xff]).unwrap());
    fs::write(stage.objects.join("multinic-19700105T000000Z.sql"), "{}").unwrap();
    let bucket = stage.bucket();
    drop(bucket.begin().unwrap());
    let two = Retention { count: Some(2), age: None };
    assert_eq!(bucket.tidy(&new, two, Timestamp::now()).unwrap(), [old.file.as_str()]);
    assert_eq!(bucket.records().unwrap(), [new.clone(), kept]);
    assert!(others.iter().all(|name| stage.object(name).exists()));
    assert!(!stage.object(&old.file).exists());
    let day = Retention { count: None, age: Some(Duration::from_secs(15 * 3600)) };
    assert_eq!(bucket.tidy(&new, day, Timestamp::now()).unwrap().len(), 1);
    assert_eq!(bucket.records().unwrap(), [new]);
}

#[test]
fn more_backups_than_a_page_of_a_list_has_are_all_seen() {
    let Some(stage) = Stage::new() else { return };
    let record = stage.kept(hours(1));
    for number in 0..1100 {
        fs::write(stage.object(&format!("multinic-0{number}")), "").unwrap();
    }
    assert_eq!(stage.bucket().records().unwrap(), [record]);
}

#[test]
fn what_the_server_refuses_is_told_with_the_field_and_without_any_secret() {
    let Some(stage) = Stage::new() else { return };
    let refused = |change: &dyn Fn(&mut BucketSettings)| {
        let mut settings = stage.settings();
        change(&mut settings);
        error(Bucket::new(&settings).and_then(|bucket| bucket.records()))
    };
    let wrong_secret = refused(&|it| it.secret_access_key = "another".into());
    assert!(wrong_secret.contains("SignatureDoesNotMatch"), "{wrong_secret}");
    assert!(wrong_secret.contains("s3.secretAccessKeySecretRef"), "{wrong_secret}");
    assert!(wrong_secret.contains(&format!("{}/backups/", stage.server.endpoint())), "{wrong_secret}");
    let wrong_id = refused(&|it| it.access_key_id = "AKIANOBODY".into());
    assert!(wrong_id.contains("s3.accessKeyIdSecretRef"), "{wrong_id}");
    let no_bucket = refused(&|it| it.bucket = "elsewhere".to_owned());
    assert!(no_bucket.contains("NoSuchBucket") && no_bucket.contains("(s3.bucket"), "{no_bucket}");
    let region = refused(&|it| it.region = "eu-west-1".to_owned());
    assert!(region.contains("(s3.region"), "{region}");
    let plain = refused(&|it| it.allow_http = false);
    assert!(plain.contains("s3.allowHttp"), "{plain}");
    let empty = refused(&|it| it.secret_access_key = "\n".into());
    assert!(empty.contains("s3.secretAccessKeySecretRef"), "{empty}");
    for prefix in ["a/../b", "a//b"] {
        let odd = refused(&|it| it.prefix = prefix.to_owned());
        assert!(odd.contains("s3.prefix"), "{odd}");
    }
}

#[test]
fn a_server_is_believed_by_its_authority_only() {
    let Some(stage) = Stage::of(S3Server::start_with_tls) else { return };
    let settings = BucketSettings { allow_http: false, ..stage.settings() };
    let told = error(Bucket::new(&settings).unwrap().records());
    assert!(told.contains("certificate") && told.contains("s3.caSecretRef"), "{told}");
    let settings = BucketSettings { ca_file: Some(stage.server.ca_file()), ..settings };
    let (path, record) = stage.dump(1000, hours(1));
    let bucket = Bucket::new(&settings).unwrap();
    bucket.keep(&path, &record).unwrap();
    assert_eq!(bucket.records().unwrap(), [record]);
    let no_authority = BucketSettings { ca_file: Some(path), ..settings };
    assert!(error(Bucket::new(&no_authority)).contains("s3.caSecretRef"));
}

#[test]
fn a_server_that_goes_away_in_the_middle_of_an_upload_leaves_nothing_that_looks_like_a_backup() {
    let Some(mut stage) = Stage::new() else { return };
    let good = stage.kept(hours(48));
    let dump = stage.dump(LARGE, hours(30));
    let failed = error(stage.interrupted(&dump, S3Server::stop));
    assert!(failed.contains(&stage.server.endpoint()) && failed.contains("s3.endpoint"), "{failed}");
    stage.server.restart().unwrap();
    let bucket = stage.bucket();
    assert_eq!(bucket.records().unwrap(), std::slice::from_ref(&good));
    let missing = error(bucket.find(&dump.1.file, "multinic", Timestamp::now()));
    assert!(missing.contains(&good.file) && missing.contains(PREFIX), "{missing}");
    assert!(stage.names().len() > 2, "parts are left: {:?}", stage.names());
    // It was begun so long ago that nobody goes on with it.
    drop(bucket.begin().unwrap());
    let own = format!("{PREFIX}/{}", good.file);
    assert_eq!(stage.names(), [own.clone(), format!("{own}.json")]);
}

#[test]
fn an_upload_goes_on_where_the_server_restarts() {
    let Some(mut stage) = Stage::new() else { return };
    let dump = stage.dump(LARGE, hours(0));
    stage.interrupted(&dump, |server| server.restart().unwrap()).unwrap();
    assert_eq!(stage.bucket().records().unwrap(), [dump.1]);
}

#[test]
fn what_was_interrupted_at_its_end_is_finished_and_a_dump_that_is_another_is_no_backup() {
    let Some(stage) = Stage::new() else { return };
    let record = stage.kept(hours(1));
    let bucket = stage.bucket();
    let names = ["json", "json.partial"].map(|end| stage.object(&format!("{}.{end}", record.file)));
    fs::rename(&names[0], &names[1]).unwrap();
    assert_eq!(bucket.records().unwrap(), []);
    drop(bucket.begin().unwrap());
    assert_eq!(bucket.records().unwrap(), std::slice::from_ref(&record));
    assert!(!names[1].exists());
    // One that somebody cut, and one that somebody changed.
    fs::rename(&names[0], &names[1]).unwrap();
    let dump = stage.object(&record.file);
    let whole = fs::read(&dump).unwrap();
    fs::write(&dump, [&whole[..999], b"x"].concat()).unwrap();
    drop(bucket.begin().unwrap());
    assert_eq!(bucket.records().unwrap(), []);
    fs::rename(&names[1], &names[0]).unwrap();
    fs::write(&dump, &whole[..999]).unwrap();
    assert_eq!(bucket.records().unwrap(), []);
}

#[tokio::test]
async fn a_ledger_comes_back_out_of_a_bucket_with_the_same_rows() {
    let (Some(stage), Some(mut scene)) = (Stage::new(), Scene::new().await) else { return };
    let (source, work) = (scene.source(), scene.path("work"));
    let settings = stage.settings();
    let made = tokio::task::spawn_blocking(move || {
        let bucket = Bucket::new(&settings).unwrap();
        make(&source, &bucket, &work, KEEP_ALL)
    });
    let record = made.await.unwrap().unwrap();
    assert!(record.rows() > 4 && record.tables["multi_interface"] == 1, "{record:?}");
    let left: Vec<_> = fs::read_dir(scene.path("work")).unwrap().flatten().map(|it| it.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".sql")), "{left:?}");
    scene.destroy();
    let (data, work, settings) = (scene.data(), scene.path("work"), stage.settings());
    let dump = stage.object(&record.file);
    let filled = tokio::task::spawn_blocking(move || {
        let archive: &dyn Archive = &Bucket::new(&settings).unwrap();
        let from = || LATEST.to_owned();
        let restoring =
            Restoring { archive, from: from(), request: None, database: "multinic".to_owned(), data, work };
        // Changed at the same length.
        let text = fs::read_to_string(&dump).unwrap();
        fs::write(&dump, text.replacen("fa:16:3e:00:00:01", "fa:16:3e:00:00:02", 1)).unwrap();
        assert!(matches!(restore(&restoring), Err(BackupError::Damaged { .. })));
        fs::write(&dump, text).unwrap();
        restore(&restoring)
    });
    let filled = filled.await.unwrap().unwrap();
    assert_eq!(filled, Restored::Filled { file: record.file.clone(), rows: record.rows() });
    assert_eq!(scene.count("multi_interface").await, record.tables["multi_interface"]);
}
