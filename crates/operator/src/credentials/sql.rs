//! What the server does at each start, so that its accounts are those of the Secret.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;

use super::Credentials;
use super::accounts::{Account, Accounts};
use crate::backup::programs::HALF_FILLED;

/// The server takes up a certificate that was renewed, as soon as the file is: connections that there are keep theirs. Without
/// TLS its scheduler does not run.
const RENEWAL: &str = "CREATE OR REPLACE DEFINER='root'@'localhost' EVENT mysql.multinic_certificate \
                       ON SCHEDULE EVERY 1 MINUTE DO FLUSH LOCAL SSL";
/// A table that is there when all accounts are: a server stops at the first statement that fails, says so in its log, and
/// lets everybody in nevertheless. Its column is named for [`SERVER_REVISION`](super::SERVER_REVISION).
const DONE: &str = "multinic_accounts";
/// The tables that agents read.
const READ: [&str; 5] = ["multi_interface", "multi_subnet", "node_table", "multi_removal", "multinic_meta"];
/// The columns in which they say what they did.
const REPORTED: [(&str, &[&str]); 2] = [
    (
        "multi_interface",
        &[
            "netplan_success",
            "observed_name",
            "observed_addresses",
            "last_error",
            "observed_at",
            "modified_at",
        ],
    ),
    ("multi_removal", &["released_at"]),
];

impl Credentials {
    /// One statement a line. Accounts have the rights that they need: the controller makes and fills its tables, agents read
    /// those that concern them and write the columns in which they say what they did, backups are read.
    pub(super) fn init_sql(&self) -> String {
        let Self { database, root_password, current, other, retired, .. } = self;
        // A pattern in a grant.
        let pattern = database.replace('_', "\\_");
        let mut lines = vec![
            format!("DROP TABLE IF EXISTS mysql.{DONE}"),
            format!("DROP DATABASE IF EXISTS {HALF_FILLED}"),
            "CREATE USER IF NOT EXISTS 'mysql'@'localhost' IDENTIFIED VIA unix_socket".to_owned(),
            format!(
                "REPLACE INTO mysql.tables_priv (Host, Db, User, Table_name, Grantor, Table_priv, Column_priv) VALUES \
                 ('localhost', 'mysql', 'mysql', '{DONE}', '', 'Select', '')"
            ),
            "CREATE USER IF NOT EXISTS 'root'@'localhost'".to_owned(),
            format!("ALTER USER 'root'@'localhost' IDENTIFIED BY {}", quoted(root_password.expose_secret())),
            // Data of the first generation lack the account, and what is made by it has its rights only.
            "GRANT ALL PRIVILEGES ON *.* TO 'root'@'localhost' WITH GRANT OPTION".to_owned(),
            format!(
                "CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
            ),
        ];
        // Which of two is in use is not the server's concern: it is not started again for that.
        let both = [Some(current), other.as_ref().map(|(_, other)| other)].into_iter().flatten();
        let (mut controllers, mut agents, mut backups) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for Accounts { controller, agent, backup } in both {
            backups.insert(&backup.user, backup);
            controllers.insert(&controller.user, controller);
            agents.insert(&agent.user, agent);
        }
        for backup in backups.into_values() {
            lines.extend(account(backup));
            lines.push(format!("GRANT SELECT, SHOW VIEW ON `{pattern}`.* TO {}@'%'", quoted(&backup.user)));
        }
        for controller in controllers.into_values() {
            lines.extend(account(controller));
            let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES";
            lines.push(format!("GRANT {rights} ON `{pattern}`.* TO {}@'%'", quoted(&controller.user)));
        }
        for agent in agents.into_values() {
            lines.extend(account(agent));
            lines.extend(rights_of_agents(database, &agent.user));
        }
        lines.extend(retired.iter().map(|user| format!("DROP USER IF EXISTS {}@'%'", quoted(user))));
        lines.push("FLUSH PRIVILEGES".to_owned());
        lines.push(format!("CREATE TABLE mysql.{DONE} ({} INT)", self.mark()));
        // After all else: a server on older data makes no events before mariadb-upgrade, and everybody can log in without.
        lines.push(RENEWAL.to_owned());
        lines.iter().map(|line| format!("{line};\n")).collect()
    }

    fn mark(&self) -> String {
        format!("`revision-{}`", self.server_revision.replace('`', ""))
    }

    /// What the startup probe asks the server: it is refused until the server was started with these very accounts, and has all
    /// of them.
    pub fn question(&self) -> String {
        format!("SELECT {} FROM mysql.{DONE}", self.mark())
    }
}

/// An account with this password and without any right: what it had of other databases, or of an earlier version, goes.
fn account(account: &Account) -> [String; 3] {
    let (user, password) = (quoted(&account.user), quoted(account.password.expose_secret()));
    [
        format!("CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY {password}"),
        format!("ALTER USER {user}@'%' IDENTIFIED BY {password}"),
        format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}@'%'"),
    ]
}

/// Rights to tables and columns that may not be there yet, since the controller makes them: GRANT refuses these, so they are
/// written where GRANT would write them.
fn rights_of_agents(database: &str, user: &str) -> [String; 2] {
    let (database, user) = (quoted(database), quoted(user));
    let tables = READ.map(|table| {
        let columns = if REPORTED.iter().any(|(reported, _)| *reported == table) { "Update" } else { "" };
        format!("('%', {database}, {user}, '{table}', '', 'Select', '{columns}')")
    });
    let columns =
        REPORTED.iter().flat_map(|(table, columns)| columns.iter().map(move |column| (table, column)));
    let columns =
        columns.map(|(table, column)| format!("('%', {database}, {user}, '{table}', '{column}', 'Update')"));
    [
        format!(
            "REPLACE INTO mysql.tables_priv (Host, Db, User, Table_name, Grantor, Table_priv, Column_priv) VALUES {}",
            tables.join(", ")
        ),
        format!(
            "REPLACE INTO mysql.columns_priv (Host, Db, User, Table_name, Column_name, Column_priv) VALUES {}",
            columns.collect::<Vec<_>>().join(", ")
        ),
    ]
}

/// As a text of SQL. [`check`](crate::check::check) has seen to it that no line ends in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
