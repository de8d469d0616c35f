//! The database's accounts: what a spec says of them, what is known already, and what is generated for the rest. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use multinic_api::operator::DatabaseSpec;
use secrecy::{ExposeSecret as _, SecretString};

use crate::desired::given;

/// The Secret with the accounts.
pub const SECRET: &str = "multinic-database";
/// Annotation of that Secret: another text for another content. Pods that read it are replaced then.
pub const REVISION: &str = "multinic.example.com/revision";
/// The agents' account.
pub const AGENT_USER: &str = "multinic-agent";
/// The account that backups are made by.
pub const BACKUP_USER: &str = "multinic-backup";
/// Key of the administrator's password.
pub const ROOT_PASSWORD: &str = "root-password";
/// Key of the controller's user.
pub const USER: &str = "username";
/// Key of the controller's password.
pub const PASSWORD: &str = "password";
/// Key of the agents' password.
pub const AGENT_PASSWORD: &str = "agent-password";
/// Key of the password of backups.
pub const BACKUP_PASSWORD: &str = "backup-password";
/// Key of the users that there once were, by commas.
const RETIRED: &str = "retired";
/// The name of the database and of the controller's user.
const NAME: &str = "multinic";

/// Everybody who may log in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The database.
    pub database: String,
    /// The administrator's password, on the server itself only.
    pub root_password: SecretString,
    /// The controller's user.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// The password of [`AGENT_USER`].
    pub agent_password: SecretString,
    /// The password of [`BACKUP_USER`].
    pub backup_password: SecretString,
    /// Users that were the controller's and are not any more.
    pub retired: BTreeSet<String>,
    /// Another one whenever any of this changes. It says nothing of the passwords.
    pub revision: String,
}

/// The accounts: what the spec says goes before what is known, and that before what is `fresh`.
pub fn credentials(
    spec: &DatabaseSpec,
    known: Option<&Secret>,
    mut fresh: impl FnMut() -> String,
) -> Credentials {
    let said = spec.credentials.clone().unwrap_or_default();
    let known_text = |key: &str| -> Option<String> {
        let ByteString(bytes) = known?.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
    };
    let mut password = |said: Option<String>, key: &str| -> SecretString {
        let said = said.filter(|password| !password.is_empty());
        said.or_else(|| known_text(key)).unwrap_or_else(&mut fresh).into()
    };
    let root_password = password(said.root_password, ROOT_PASSWORD);
    let agent_password = password(None, AGENT_PASSWORD);
    let backup_password = password(None, BACKUP_PASSWORD);
    let controller_password = password(said.password, PASSWORD);
    let user = given(said.user.as_ref()).unwrap_or(NAME).to_owned();
    let retired = known_text(RETIRED).unwrap_or_default();
    let retired = retired.split(',').map(str::to_owned).chain(known_text(USER));
    let retired = retired.filter(|old| !old.is_empty() && *old != user).collect();
    let mut credentials = Credentials {
        database: given(said.database.as_ref()).unwrap_or(NAME).to_owned(),
        root_password,
        user,
        password: controller_password,
        agent_password,
        backup_password,
        retired,
        revision: String::new(),
    };
    let same = known.filter(|secret| secret.data.as_ref() == Some(&credentials.data()));
    let revision = same.and_then(|secret| secret.metadata.annotations.as_ref()?.get(REVISION));
    credentials.revision = revision.cloned().unwrap_or_else(fresh);
    credentials
}

impl Credentials {
    /// What the Secret holds.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let Self {
            database: _,
            root_password,
            user,
            password,
            agent_password,
            backup_password,
            retired,
            revision: _,
        } = self;
        let retired = retired.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let init = self.init_sql();
        let entries = [
            (ROOT_PASSWORD, root_password.expose_secret()),
            (USER, user),
            (PASSWORD, password.expose_secret()),
            (AGENT_PASSWORD, agent_password.expose_secret()),
            (BACKUP_PASSWORD, backup_password.expose_secret()),
            (RETIRED, &retired),
            ("init.sql", &init),
        ];
        let entries = entries.into_iter().filter(|(_, text)| !text.is_empty());
        entries.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec()))).collect()
    }

    /// What the server does at each start, one statement a line. Accounts have the rights that they need: the controller makes
    /// and fills its tables, agents read them and say there what they did, backups are read.
    fn init_sql(&self) -> String {
        let Self {
            database,
            root_password,
            user,
            password,
            agent_password,
            backup_password,
            retired,
            revision: _,
        } = self;
        // A pattern in a grant.
        let pattern = database.replace('_', "\\_");
        let mut lines = vec![
            "CREATE USER IF NOT EXISTS 'mysql'@'localhost' IDENTIFIED VIA unix_socket".to_owned(),
            format!("ALTER USER 'root'@'localhost' IDENTIFIED BY {}", quoted(root_password.expose_secret())),
            format!(
                "CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
            ),
        ];
        let all = [
            (user.as_str(), password, "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES"),
            (AGENT_USER, agent_password, "SELECT, UPDATE"),
            (BACKUP_USER, backup_password, "SELECT, SHOW VIEW"),
        ];
        for (user, password, rights) in all {
            let (user, password) = (quoted(user), quoted(password.expose_secret()));
            lines.push(format!("CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY {password}"));
            lines.push(format!("ALTER USER {user}@'%' IDENTIFIED BY {password}"));
            // What it had of other databases, or of an earlier version, goes.
            lines.push(format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}@'%'"));
            lines.push(format!("GRANT {rights} ON `{pattern}`.* TO {user}@'%'"));
        }
        lines.extend(retired.iter().map(|user| format!("DROP USER IF EXISTS {}@'%'", quoted(user))));
        lines.iter().map(|line| format!("{line};\n")).collect()
    }
}

/// As a text of SQL. [`check`](crate::check::check) has seen to it that no line ends in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use multinic_api::operator::DatabaseCredentials;

    use super::*;

    fn secret(credentials: &Credentials) -> Secret {
        let annotations = BTreeMap::from([(REVISION.to_owned(), credentials.revision.clone())]);
        let metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
        Secret { metadata, data: Some(credentials.data()), ..Secret::default() }
    }

    fn counting() -> impl FnMut() -> String {
        let mut count = 0;
        move || {
            count += 1;
            format!("fresh-{count}")
        }
    }

    fn spec(user: Option<&str>, password: Option<&str>) -> DatabaseSpec {
        let credentials = DatabaseCredentials {
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            ..DatabaseCredentials::default()
        };
        DatabaseSpec { credentials: Some(credentials), ..DatabaseSpec::default() }
    }

    #[test]
    fn what_is_generated_once_stays_and_what_is_said_goes_before_it() {
        let mut fresh = counting();
        let first = credentials(&DatabaseSpec::default(), None, &mut fresh);
        assert_eq!(first.user, "multinic");
        let again = credentials(&DatabaseSpec::default(), Some(&secret(&first)), &mut fresh);
        assert_eq!((&again.revision, again.data()), (&first.revision, first.data()));
        let said = credentials(&spec(None, Some("a'b\\c")), Some(&secret(&first)), &mut fresh);
        assert_ne!(said.revision, first.revision);
        assert_eq!(said.password.expose_secret(), "a'b\\c");
        assert!(said.init_sql().contains("BY 'a''b\\\\c';"), "{}", said.init_sql());
        assert_eq!(said.agent_password.expose_secret(), first.agent_password.expose_secret());
        // No longer said, it is known.
        let known = credentials(&DatabaseSpec::default(), Some(&secret(&said)), &mut fresh);
        assert_eq!((known.revision, known.password.expose_secret()), (said.revision, "a'b\\c"));
        // A Secret that was lost is made anew, and everybody hears of it.
        let anew = credentials(&DatabaseSpec::default(), None, &mut fresh);
        assert_ne!(anew.revision, first.revision);
    }

    #[test]
    fn a_user_that_is_another_now_is_dropped_unless_it_comes_back() {
        let first = credentials(&spec(Some("a"), None), None, counting());
        let second = credentials(&spec(Some("b"), None), Some(&secret(&first)), counting());
        assert_eq!(second.retired, BTreeSet::from(["a".to_owned()]));
        assert!(second.init_sql().contains("DROP USER IF EXISTS 'a'@'%';"), "{}", second.init_sql());
        let third = credentials(&spec(Some("a"), None), Some(&secret(&second)), counting());
        assert_eq!(third.retired, BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn no_debug_output_holds_a_password() {
        let credentials = credentials(&DatabaseSpec::default(), None, counting());
        let text = format!("{credentials:?}");
        for password in [&credentials.root_password, &credentials.password, &credentials.agent_password] {
            assert!(!text.contains(password.expose_secret()), "{text}");
        }
    }
}
