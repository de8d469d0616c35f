//! The file of `--config`: every flag under its own name, below the environment and the command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

/// The flag that names the file. It has no variable, as the agent's has none: a process that reads its settings from a file
/// says so in its arguments.
#[derive(Debug, clap::Args)]
pub struct FileArg {
    /// A YAML file of settings: each flag in lower case with underscores, such as poll_fast_interval: 20s. What the
    /// environment or the command line says goes before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("--config: cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML mapping.
    #[error("--config: {} is not a YAML mapping: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and why.
        reason: String,
    },
    /// A key that nobody knows.
    #[error(
        "--config: {} has an unknown key {key}: the keys are the flags of `multinic {command} --help` in lower case with \
         underscores; secrets are read from the environment or from files of their own", path.display()
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The subcommand that reads the file.
        command: String,
    },
    /// A value that cannot be used.
    #[error("--config: {} has no usable value for {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// The command with what its `--config` file says as defaults.
///
/// # Errors
/// Where there is a file and it cannot be used as a whole: nothing of it is skipped in silence.
pub fn under(command: Command, arguments: &[OsString]) -> Result<Command, FileError> {
    let Some((name, path)) = named(&command, arguments) else { return Ok(command) };
    let values = read(&path)?;
    let Some(subcommand) = command.find_subcommand(&name) else { return Ok(command) };
    let mut defaults = BTreeMap::new();
    for (key, value) in values {
        let wrong = |reason: String| FileError::Value { path: path.clone(), key: key.clone(), reason };
        let Some(arg) =
            subcommand.get_arguments().find(|arg| is_setting(arg) && arg.get_id() == key.as_str())
        else {
            return Err(FileError::UnknownKey { path, key, command: name });
        };
        let Some(text) = as_text(&value).map_err(|reason| wrong(reason.to_owned()))? else { continue };
        check(subcommand, arg, &text).map_err(wrong)?;
        defaults.insert(key, text);
    }
    Ok(command.mut_subcommand(name, |subcommand| {
        subcommand.mut_args(|arg| match defaults.remove(arg.get_id().as_str()) {
            // The help would call it the program's default.
            Some(text) => arg.default_value(text).hide_default_value(true),
            None => arg,
        })
    }))
}

/// The subcommand, and the file that it is to read. What else is wrong with the arguments is told when they are parsed.
fn named(command: &Command, arguments: &[OsString]) -> Option<(String, PathBuf)> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    let (name, matches): (&str, &ArgMatches) = matches.subcommand()?;
    let path = matches.try_get_one::<PathBuf>("config").ok()??;
    Some((name.to_owned(), path.clone()))
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let values: Option<BTreeMap<String, Value>> = serde_saphyr::from_str(&text)
        .map_err(|error| FileError::Parse { path: path.to_owned(), reason: error.to_string() })?;
    Ok(values.unwrap_or_default())
}

/// Whether an argument is a setting: what is done once, such as `--once`, belongs on the command line.
fn is_setting(arg: &Arg) -> bool {
    arg.get_id() != "config" && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// A value as the command line would have it; none where the key is there without one.
fn as_text(value: &Value) -> Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            texts.map(|texts| Some(texts.join(","))).ok_or("it must be a list of texts")
        }
        Value::Object(_) => Err("it must be a single value or a list"),
    }
}

/// Asks the flag's own parser about a value from elsewhere, so that the error can name where it is from and not a flag that
/// nobody gave.
pub fn check(subcommand: &Command, arg: &Arg, text: &str) -> Result<(), String> {
    let Some(flag) = arg.get_long() else { return Ok(()) };
    let arguments = [subcommand.get_name().to_owned(), format!("--{flag}={text}")];
    // What is wrong with another variable is not this one's fault.
    let alone = subcommand.clone().mut_args(|arg| arg.env(None::<&str>));
    match alone.try_get_matches_from(arguments) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::NoEquals
            ) =>
        {
            let said = error.to_string();
            let line = said.lines().next().unwrap_or_default();
            Err(line.trim_start_matches("error: ").to_owned())
        }
        // Whether the flags go together is for the whole command line to say.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, Subcommand)]
    enum Sub {
        Work {
            #[command(flatten)]
            _file: FileArg,
            #[arg(long, env = "MULTINIC_TEST_OF_THE_FILE", default_value_t = 1)]
            port: u16,
            #[arg(long, value_delimiter = ',', default_value = "a")]
            names: Vec<String>,
            #[arg(long, requires = "port")]
            once: bool,
        },
    }

    fn parse(file: &str, more: &[&str]) -> Result<(u16, Vec<String>), String> {
        use clap::{CommandFactory as _, FromArgMatches as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("multinic.yaml");
        std::fs::write(&path, file).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let arguments: Vec<OsString> =
            ["multinic", "work", "--config", &path].iter().chain(more).map(OsString::from).collect();
        let command = under(Cli::command(), &arguments).map_err(|error| error.to_string())?;
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let Sub::Work { port, names, .. } = Cli::from_arg_matches(&matches).unwrap().command;
        Ok((port, names))
    }

    #[test]
    fn a_file_is_a_default_that_the_command_line_goes_before() {
        let file = "port: 7\nnames: [b, c]\n";
        assert_eq!(parse(file, &[]), Ok((7, vec!["b".to_owned(), "c".to_owned()])));
        assert_eq!(parse(file, &["--port=8", "--names=d"]), Ok((8, vec!["d".to_owned()])));
        assert_eq!(parse("", &[]), Ok((1, vec!["a".to_owned()])));
        assert_eq!(parse("port:\n", &[]), Ok((1, vec!["a".to_owned()])));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_name_and_key() {
        for (file, key, reason) in [
            ("prot: 7", "prot", "unknown key"),
            ("once: true", "once", "unknown key"),
            ("config: other.yaml", "config", "unknown key"),
            ("port: 70000", "port", "70000 is not in 0..=65535"),
            ("port: {a: 1}", "port", "single value"),
            ("names: [{}]", "names", "list of texts"),
            ("- port", "multinic.yaml", "not a YAML mapping"),
        ] {
            let error = parse(file, &[]).unwrap_err();
            assert!(
                error.contains("multinic.yaml") && error.contains(key) && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_and_not_an_empty_one() {
        let arguments = ["multinic", "work", "--config", "/nowhere/multinic.yaml"].map(OsString::from);
        let error = under(<Cli as clap::CommandFactory>::command(), &arguments).unwrap_err();
        assert!(matches!(error, FileError::Read { .. }), "{error}");
    }
}
