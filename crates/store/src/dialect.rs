//! Where the SQL of MariaDB and MySQL differs from that of SQLite.

/// A kind of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// MariaDB 10.3 or MySQL 5.7, and later.
    MySql,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// Begins a transaction that reads one state of everything, whatever is committed meanwhile.
    pub(crate) fn begin_read(self) -> &'static str {
        match self {
            Self::MySql => "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            // The snapshot is the one of the first read.
            Self::Sqlite => "BEGIN DEFERRED",
        }
    }

    /// Begins a transaction that writes. SQLite takes its one write lock here, so that nothing can fail half-way for
    /// want of it.
    pub(crate) fn begin_write(self) -> &'static str {
        match self {
            Self::MySql => "START TRANSACTION",
            Self::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// Locks the rows that a SELECT finds.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// The time that lies this many seconds back, in the form of the time columns.
    pub(crate) fn seconds_ago(self, seconds: u64) -> String {
        match self {
            Self::MySql => format!("(CURRENT_TIMESTAMP - INTERVAL {seconds} SECOND)"),
            Self::Sqlite => format!("datetime('now', '-{seconds} seconds')"),
        }
    }

    /// Inserts a row unless its key is there.
    pub(crate) fn insert_ignore(self) -> &'static str {
        match self {
            Self::MySql => "INSERT IGNORE INTO",
            Self::Sqlite => "INSERT OR IGNORE INTO",
        }
    }

    /// What an INSERT does instead where a row with this key is there: `set` the columns to what was to be inserted. On
    /// MariaDB and MySQL a column that was set has its new value in what is set after it.
    pub(crate) fn on_duplicate(self, key: &str, set: &[&str]) -> String {
        let (head, new): (String, fn(&str) -> String) = match self {
            Self::MySql => ("ON DUPLICATE KEY UPDATE ".to_owned(), |column| format!("VALUES({column})")),
            Self::Sqlite => {
                (format!("ON CONFLICT ({key}) DO UPDATE SET "), |column| format!("excluded.{column}"))
            }
        };
        let sets: Vec<String> = set.iter().map(|column| format!("{column} = {}", new(column))).collect();
        head + &sets.join(", ")
    }

    /// A fresh random text.
    pub(crate) fn random_text(self) -> &'static str {
        match self {
            Self::MySql => "UUID()",
            Self::Sqlite => "lower(hex(randomblob(16)))",
        }
    }
}
