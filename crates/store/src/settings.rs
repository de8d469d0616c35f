//! Where the database is, and how it is spoken to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::error::Place;

/// MySQL's and MariaDB's port.
const DEFAULT_PORT: u16 = 3306;
/// The database name of the older programs' manifests.
const DEFAULT_NAME: &str = "multinic";
/// The controller works in one task; the rest is for whoever reads the inventory meanwhile.
const DEFAULT_POOL_SIZE: u32 = 4;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A database and how to speak to it. Neither `Debug` nor `Display` shows the password.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Which database.
    pub target: Target,
    /// Whether the connection is encrypted, and whom it trusts. Without meaning for SQLite.
    pub tls: Tls,
    /// How many connections the controller holds at most. Agents hold one, and only while they read or report.
    pub pool_size: u32,
    /// How long to wait for a connection, including the login.
    pub connect_timeout: Duration,
    /// How long to wait for the next answer to a statement, or for another program's lock.
    pub statement_timeout: Duration,
}

/// Which database.
#[derive(Debug, Clone)]
pub enum Target {
    /// A MariaDB or MySQL server.
    MySql {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// The user to log in as.
        user: String,
        /// That user's password.
        password: SecretString,
        /// The database on the server.
        name: String,
    },
    /// A file on this machine.
    Sqlite {
        /// The file's path.
        path: PathBuf,
    },
}

/// Whether a connection is encrypted, and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tls {
    /// Plain TCP, as the older programs do.
    #[default]
    Disabled,
    /// TLS with the server's certificate and host name verified against the system's roots and this file of more.
    Verified {
        /// A PEM file of certificate authorities to trust besides the system's.
        ca_file: Option<PathBuf>,
    },
    /// TLS with whatever certificate the server shows: safe against listening, not against a man in the middle.
    Unverified,
}

/// The single values that flags, environment variables and files give; all of them optional.
#[derive(Debug, Clone, Default)]
pub struct DatabaseParts {
    /// `DATABASE_URL`: `mysql://user:password@host:port/name`, `mariadb://…` or `sqlite:///path`. Goes before the parts
    /// below; only the password and the TLS choice may come from them.
    pub url: Option<SecretString>,
    /// `DB_HOST`.
    pub host: Option<String>,
    /// `DB_PORT`, 3306 by default.
    pub port: Option<u16>,
    /// `DB_USER` or `DB_USERNAME`.
    pub user: Option<String>,
    /// `DB_PASSWORD`.
    pub password: Option<SecretString>,
    /// `DB_NAME` or `DB_DATABASE`, `multinic` by default.
    pub name: Option<String>,
    /// `DB_TLS`: `disabled`, `verify` or `insecure`. Default: `verify` where a CA file is given, else `disabled`.
    pub tls: Option<String>,
    /// `DB_TLS_CA`: a PEM file of certificate authorities.
    pub tls_ca: Option<PathBuf>,
    /// `DB_POOL_SIZE` or `DB_MAX_OPEN_CONNS`, 4 by default.
    pub pool_size: Option<u32>,
    /// `DB_CONNECT_TIMEOUT`, 10 s by default.
    pub connect_timeout: Option<Duration>,
    /// `DB_STATEMENT_TIMEOUT`, 30 s by default.
    pub statement_timeout: Option<Duration>,
}

/// Why settings do not name a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct SettingsError {
    /// The environment variable to set.
    pub variable: &'static str,
    /// What is wrong with it, without the value where that may hold a password.
    pub reason: String,
}

fn wrong(variable: &'static str, reason: impl Into<String>) -> SettingsError {
    SettingsError { variable, reason: reason.into() }
}

impl DatabaseSettings {
    /// Puts the single values together.
    pub fn from_parts(parts: DatabaseParts) -> Result<Self, SettingsError> {
        let DatabaseParts {
            url,
            host,
            port,
            user,
            password,
            name,
            tls,
            tls_ca,
            pool_size,
            connect_timeout,
            statement_timeout,
        } = parts;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut choice = TlsChoice { mode: filled(tls), ca_file: tls_ca, variable: "DB_TLS" };
        let target = match url.filter(|url| !url.expose_secret().is_empty()) {
            Some(url) => target_of_url(url.expose_secret(), password, &mut choice)?,
            None => Target::MySql {
                host: filled(host).ok_or_else(|| {
                    wrong(
                        "DB_HOST",
                        "is not set, and neither is DATABASE_URL: one of them names the database",
                    )
                })?,
                port: port.unwrap_or(DEFAULT_PORT),
                user: filled(user)
                    .ok_or_else(|| wrong("DB_USER", "is not set: the database needs a user to log in as"))?,
                password: required(password)?,
                name: filled(name).unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            },
        };
        let positive = |variable, duration: Option<Duration>, default| match duration {
            Some(Duration::ZERO) => Err(wrong(variable, "must be longer than 0")),
            other => Ok(other.unwrap_or(default)),
        };
        if pool_size == Some(0) {
            return Err(wrong("DB_POOL_SIZE", "must be at least 1"));
        }
        Ok(Self {
            target,
            tls: choice.resolve()?,
            pool_size: pool_size.unwrap_or(DEFAULT_POOL_SIZE),
            connect_timeout: positive("DB_CONNECT_TIMEOUT", connect_timeout, DEFAULT_CONNECT_TIMEOUT)?,
            statement_timeout: positive(
                "DB_STATEMENT_TIMEOUT",
                statement_timeout,
                DEFAULT_STATEMENT_TIMEOUT,
            )?,
        })
    }

    /// A database given by its URL alone.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        Self::from_parts(DatabaseParts { url: Some(SecretString::from(url)), ..DatabaseParts::default() })
    }

    /// A SQLite file with the default timeouts.
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        Self {
            target: Target::Sqlite { path: path.as_ref().to_owned() },
            tls: Tls::Disabled,
            pool_size: DEFAULT_POOL_SIZE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
        }
    }

    /// The database's name for logs and errors.
    pub fn place(&self) -> Place {
        Place::of(&self.target)
    }
}

fn required(password: Option<SecretString>) -> Result<SecretString, SettingsError> {
    password.filter(|password| !password.expose_secret().is_empty()).ok_or_else(|| {
        wrong("DB_PASSWORD", "is not set, and DATABASE_URL holds no password: there is no default password")
    })
}

struct TlsChoice {
    mode: Option<String>,
    ca_file: Option<PathBuf>,
    variable: &'static str,
}

impl TlsChoice {
    fn resolve(self) -> Result<Tls, SettingsError> {
        let Self { mode, ca_file, variable } = self;
        // The second words are those of the MySQL clients' ssl-mode.
        match mode.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None if ca_file.is_some() => Ok(Tls::Verified { ca_file }),
            None => Ok(Tls::Disabled),
            Some("verify" | "verify_ca" | "verify_identity") => Ok(Tls::Verified { ca_file }),
            Some("disabled") if ca_file.is_none() => Ok(Tls::Disabled),
            Some("insecure" | "required") if ca_file.is_none() => Ok(Tls::Unverified),
            Some("disabled" | "insecure" | "required") => {
                Err(wrong(variable, "does not go with a CA file: remove one, or choose verify"))
            }
            Some(_) => Err(wrong(
                variable,
                "is not one of disabled, verify (TLS, certificate and host name checked) and insecure (TLS, unchecked)",
            )),
        }
    }
}

fn target_of_url(
    text: &str,
    password: Option<SecretString>,
    tls: &mut TlsChoice,
) -> Result<Target, SettingsError> {
    let variable = "DATABASE_URL";
    // A relative path is no URL: `sqlite:data.db` and `sqlite://data.db` are common all the same.
    if let Some(rest) = text.strip_prefix("sqlite:") {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        if rest.is_empty() || rest.starts_with(':') || rest.contains('?') {
            return Err(wrong(variable, "names no file: sqlite:///var/lib/multinic/state.db is the form"));
        }
        return Ok(Target::Sqlite { path: PathBuf::from(rest) });
    }
    // The parser's own message is left out, with what it might quote.
    let url: Url = text.parse().map_err(|_| {
        wrong(variable, "is not a URL of the form mysql://user:password@host:port/name or sqlite:///path")
    })?;
    if !matches!(url.scheme(), "mysql" | "mariadb") {
        return Err(wrong(variable, "must begin with mysql://, mariadb:// or sqlite://"));
    }
    let decoded = |text: &str, what: &str| {
        percent_decoded(text)
            .ok_or_else(|| wrong(variable, format!("the {what} is not UTF-8 when %-decoded")))
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| wrong(variable, "names no host"))?;
    let user = decoded(url.username(), "user")?;
    if user.is_empty() {
        return Err(wrong(variable, "names no user"));
    }
    let own = url.password().map(|text| decoded(text, "password")).transpose()?;
    let own = own.filter(|text| !text.is_empty()).map(SecretString::from);
    let name = decoded(url.path().trim_start_matches('/'), "database name")?;
    for (key, value) in url.query_pairs() {
        match key.as_ref() {
            "tls" | "ssl-mode" | "sslmode" => {
                tls.mode = Some(value.into_owned());
                tls.variable = variable;
            }
            "tls-ca" | "ssl-ca" => tls.ca_file = Some(PathBuf::from(value.into_owned())),
            other => {
                return Err(wrong(variable, format!("has an unknown option {other:?}; known: tls, tls-ca")));
            }
        }
    }
    Ok(Target::MySql {
        // An IPv6 address is in brackets only within a URL.
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: url.port().unwrap_or(DEFAULT_PORT),
        user,
        password: required(own.or(password))?,
        name: if name.is_empty() { DEFAULT_NAME.to_owned() } else { name },
    })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.filter(|_| first == b'%').map(|pair| u8::from_str_radix(pair, 16)) {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> DatabaseParts {
        DatabaseParts {
            host: Some("db.example".into()),
            user: Some("multinic".into()),
            password: Some(SecretString::from("s3cret")),
            ..DatabaseParts::default()
        }
    }

    #[test]
    fn there_is_no_default_password() {
        for parts in [
            DatabaseParts { password: None, ..parts() },
            DatabaseParts { password: Some(SecretString::from("")), ..parts() },
            DatabaseParts { url: Some("mysql://u@h/db".into()), ..DatabaseParts::default() },
        ] {
            assert_eq!(DatabaseSettings::from_parts(parts).unwrap_err().variable, "DB_PASSWORD");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let settings = DatabaseSettings::from_parts(parts()).unwrap();
        let shown = format!("{settings:?} {}", settings.place());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("db.example"), "{shown}");
        let error = DatabaseSettings::from_url("mysql://u:s3cret@h:notaport/db").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn a_url_gives_every_part() {
        let settings =
            DatabaseSettings::from_url("mariadb://us%40er:p%2Fw%25@[fd00::1]:3307/net?tls=verify").unwrap();
        let Target::MySql { host, port, user, password, name } = settings.target else {
            panic!("{settings:?}")
        };
        assert_eq!((host.as_str(), port, user.as_str(), name.as_str()), ("fd00::1", 3307, "us@er", "net"));
        assert_eq!(password.expose_secret(), "p/w%");
        assert_eq!(settings.tls, Tls::Verified { ca_file: None });
    }

    #[test]
    fn a_sqlite_url_may_be_absolute_or_relative() {
        for (url, path) in
            [("sqlite:///a/b.db", "/a/b.db"), ("sqlite://b.db", "b.db"), ("sqlite:b.db", "b.db")]
        {
            let Target::Sqlite { path: read } = DatabaseSettings::from_url(url).unwrap().target else {
                panic!("{url}")
            };
            assert_eq!(read, PathBuf::from(path));
        }
    }

    #[test]
    fn a_password_may_come_beside_a_url_without_one() {
        let parts = DatabaseParts { url: Some("mysql://u@h/db".into()), host: None, ..parts() };
        assert!(DatabaseSettings::from_parts(parts).is_ok());
    }

    #[test]
    fn tls_is_verified_unless_it_is_turned_off_by_name() {
        let tls = |mode: Option<&str>, ca: Option<&str>| {
            let parts =
                DatabaseParts { tls: mode.map(str::to_owned), tls_ca: ca.map(PathBuf::from), ..parts() };
            DatabaseSettings::from_parts(parts).map(|settings| settings.tls)
        };
        assert_eq!(tls(None, None), Ok(Tls::Disabled));
        assert_eq!(tls(None, Some("/ca")), Ok(Tls::Verified { ca_file: Some("/ca".into()) }));
        assert_eq!(tls(Some("verify"), None), Ok(Tls::Verified { ca_file: None }));
        assert_eq!(tls(Some("insecure"), None), Ok(Tls::Unverified));
        assert_eq!(tls(Some("preferred"), None).unwrap_err().variable, "DB_TLS");
        assert!(tls(Some("insecure"), Some("/ca")).is_err());
    }

    #[test]
    fn a_missing_host_or_user_is_named() {
        let error = |parts| DatabaseSettings::from_parts(parts).unwrap_err().variable;
        assert_eq!(error(DatabaseParts { host: None, ..parts() }), "DB_HOST");
        assert_eq!(error(DatabaseParts { user: None, ..parts() }), "DB_USER");
    }
}
