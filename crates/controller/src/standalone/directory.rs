//! The directory of configurations: every `*.yaml` and `*.yml` file, each with one or more documents.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use multinic_core::ConfigKey;
use multinic_core::config::{ConfigErrors, Defaults, FieldError, Manifest, Metadata, OpenstackConfig, parse};

/// The directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

/// What the directory holds.
#[derive(Debug)]
pub struct Contents {
    /// Every configuration whose name is known.
    pub sources: BTreeMap<ConfigKey, Source>,
    /// Files, or documents in them, whose configuration is not known. While there is one, no configuration counts as
    /// removed: it may be the one.
    pub broken: Vec<ReadError>,
}

/// One configuration and where it is.
#[derive(Debug)]
pub struct Source {
    /// Its file.
    pub file: PathBuf,
    /// What it says, or what is wrong with it.
    pub config: Result<OpenstackConfig, ConfigErrors>,
}

/// A directory or file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The directory itself.
    #[error("cannot read directory {}: {source}; nothing is removed while it cannot be read", path.display())]
    Directory {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is no YAML of the right shape.
    #[error("{}: {problem}", path.display())]
    Shape {
        /// Its path.
        path: PathBuf,
        /// Where, and what is wrong. Never shows a value: it may be a password.
        problem: String,
    },
    /// A file without a document. A disk that ran full leaves such ones.
    #[error(
        "{} has no document in it; remove the file itself if what it declared is to go", path.display()
    )]
    Empty {
        /// Its path.
        path: PathBuf,
    },
}

impl ReadError {
    /// The directory or file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. }
            | Self::File { path, .. }
            | Self::Shape { path, .. }
            | Self::Empty { path } => path,
        }
    }
}

/// Changes whenever a file does.
pub type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl Directory {
    /// A directory, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Something that differs as soon as a file was added, changed or removed.
    pub fn fingerprint(&self) -> Fingerprint {
        let files = self.files().unwrap_or_default();
        let stamp = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok();
            let length = metadata.as_ref().map_or(0, fs::Metadata::len);
            (path, length, metadata.and_then(|metadata| metadata.modified().ok()))
        };
        files.into_iter().map(stamp).collect()
    }

    /// How long ago, by its own time, the newest file was written. Zero where that cannot be told.
    pub fn unchanged_for(&self) -> Duration {
        let files = self.files().unwrap_or_default();
        let changed = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let newest = files.iter().filter_map(changed).max();
        // A time in the future is somebody else's clock.
        newest.and_then(|newest| newest.elapsed().ok()).unwrap_or_default()
    }

    /// Reads every file. One that cannot be read stops no other.
    pub fn read(&self, defaults: &Defaults) -> Result<Contents, ReadError> {
        let mut contents = Contents { sources: BTreeMap::new(), broken: Vec::new() };
        let failed = |source| ReadError::Directory { path: self.path.clone(), source };
        for path in self.files().map_err(failed)? {
            match fs::read_to_string(&path) {
                Ok(text) => contents.add(&path, &text, defaults),
                Err(source) => contents.broken.push(ReadError::File { path, source }),
            }
        }
        Ok(contents)
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if is_config_file(&path) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// `*.yaml` and `*.yml`, but not hidden files (editors' and ConfigMaps' own) and not our status files.
fn is_config_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    is_yaml && !name.starts_with('.') && !name.ends_with(".status.yaml")
}

impl Contents {
    fn add(&mut self, path: &Path, text: &str, defaults: &Defaults) {
        let documents = match serde_saphyr::from_multiple::<Manifest>(text) {
            Ok(documents) => documents,
            Err(error) => {
                let error = ReadError::Shape { path: path.to_owned(), problem: place_of(&error) };
                return self.add_misshapen(error, text);
            }
        };
        if documents.is_empty() {
            self.broken.push(ReadError::Empty { path: path.to_owned() });
        }
        for manifest in documents {
            self.insert(manifest.metadata.key(), path, parse(&manifest, defaults));
        }
    }

    /// A file whose names can be read at least belongs to the configurations of these names: it is their error.
    fn add_misshapen(&mut self, error: ReadError, text: &str) {
        #[derive(serde::Deserialize)]
        struct Named {
            metadata: Metadata,
        }
        let named = serde_saphyr::from_multiple::<Named>(text).unwrap_or_default();
        let is_named = |document: &Named| !document.metadata.name.trim().is_empty();
        if named.is_empty() || !named.iter().all(is_named) {
            self.broken.push(error);
            return;
        }
        for Named { metadata } in named {
            self.insert(metadata.key(), error.path(), Err(as_config_error(&error)));
        }
    }

    fn insert(&mut self, key: ConfigKey, path: &Path, config: Result<OpenstackConfig, ConfigErrors>) {
        if let Some(other) = self.sources.get_mut(&key) {
            // Which of the two is meant cannot be told, so neither is.
            let problem = format!("{key} is also in {}; give one of them another name", path.display());
            other.config = Err(ConfigErrors(vec![FieldError { field: "metadata.name".to_owned(), problem }]));
            return;
        }
        self.sources.insert(key, Source { file: path.to_owned(), config });
    }

    /// Gives broken files to the configurations that were in them before, so that their status says so.
    pub fn attribute(&mut self, before: &BTreeMap<ConfigKey, PathBuf>) {
        for error in &self.broken {
            for (key, _) in before.iter().filter(|(_, file)| *file == error.path()) {
                let source = || Source { file: error.path().to_owned(), config: Err(as_config_error(error)) };
                self.sources.entry(key.clone()).or_insert_with(source);
            }
        }
    }
}

fn as_config_error(error: &ReadError) -> ConfigErrors {
    let (field, problem) = match error {
        ReadError::Directory { path, source } | ReadError::File { path, source } => {
            (path, format!("cannot be read: {source}"))
        }
        ReadError::Shape { path, problem } => (path, problem.clone()),
        ReadError::Empty { path } => (path, "has no document in it".to_owned()),
    };
    ConfigErrors(vec![FieldError { field: field.display().to_string(), problem }])
}

/// What is wrong, and where, without the excerpt of the file that the parser's own text has: it may be a password.
fn place_of(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
