//! Creates what is missing in a database, and changes nothing that is there but the width of two columns.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::dialect::Dialect;
use crate::error::StoreError;
use crate::schema::{Column, Kind, Place, SCHEMA_VERSION, Schema, Table};
use crate::session::{Arg, Session};

/// How long to wait for another controller that upgrades the same database, in seconds.
const LOCK_SECONDS: u32 = 20;

/// The columns of one table as the database has them.
#[derive(Default)]
pub(crate) struct FoundTable {
    pub(crate) columns: HashMap<String, FoundColumn>,
    /// The first column of each index.
    indexed: Vec<String>,
}

pub(crate) struct FoundColumn {
    kind: String,
    characters: Option<i64>,
}

/// Creates or upgrades the tables. Two controllers that start at once take turns.
pub(crate) async fn migrate(session: &mut Session, schema: &Schema) -> Result<(), StoreError> {
    match session.dialect() {
        Dialect::MySql => {
            // MariaDB and MySQL commit at every CREATE and ALTER, so a transaction guards nothing; a named lock does.
            lock(session).await?;
            let done = upgrade(session, schema).await;
            let freed = session.command("releasing the upgrade lock", "DO RELEASE_LOCK(DATABASE())").await;
            done.and(freed)
        }
        Dialect::Sqlite => {
            write_ahead(session).await?;
            session.begin_write().await?;
            upgrade(session, schema).await?;
            session.commit().await
        }
    }
}

/// Makes readers and the writer of a file independent of one another; a property that the file keeps. SQLite does not
/// wait for another connection here as it does elsewhere.
async fn write_ahead(session: &mut Session) -> Result<(), StoreError> {
    let deadline = Instant::now() + Duration::from_secs(LOCK_SECONDS.into());
    loop {
        match session.command("switching to a write-ahead log", "PRAGMA journal_mode = WAL").await {
            Err(error) if error.lost_a_race() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
}

async fn lock(session: &mut Session) -> Result<(), StoreError> {
    let mut taken = false;
    let sql = format!("SELECT CAST(COALESCE(GET_LOCK(DATABASE(), {LOCK_SECONDS}), 0) AS SIGNED)");
    session
        .each_row("waiting for another controller's upgrade", &sql, Vec::new(), &mut |row| {
            taken = row.int(0)? == Some(1);
            Ok(())
        })
        .await?;
    if taken {
        return Ok(());
    }
    Err(StoreError::TimedOut {
        place: session.place().clone(),
        attempted: "waiting for another controller's upgrade",
        after: Duration::from_secs(LOCK_SECONDS.into()),
    })
}

async fn upgrade(session: &mut Session, schema: &Schema) -> Result<(), StoreError> {
    let dialect = session.dialect();
    let collation = collation(session).await?;
    for table in schema.tables {
        let found = find(session, table.name).await?;
        if found.columns.is_empty() {
            session.command("creating a table", &table.create(dialect, &collation)).await?;
            let found = find(session, table.name).await?;
            add_indexes(session, table, &found).await?;
        } else {
            check(session, table, &found)?;
            add_columns(session, table, &found).await?;
            add_indexes(session, table, &found).await?;
        }
    }
    fill_meta(session, schema.meta).await
}

/// The collation for new tables: that of an older program's, else the one that those programs' manifests name.
async fn collation(session: &mut Session) -> Result<String, StoreError> {
    let mut collation = None;
    if session.dialect() == Dialect::MySql {
        let sql = "SELECT CAST(table_collation AS CHAR) FROM information_schema.tables \
                   WHERE table_schema = DATABASE() AND table_collation IS NOT NULL \
                   AND table_name IN ('multi_interface', 'multi_subnet', 'node_table') ORDER BY table_name LIMIT 1";
        session
            .each_row("reading the tables' collation", sql, Vec::new(), &mut |row| {
                collation = row.text(0)?.map(str::to_owned);
                Ok(())
            })
            .await?;
    }
    Ok(collation.unwrap_or_else(|| "utf8mb4_unicode_ci".to_owned()))
}

/// Looks a table up; one without columns is not there.
pub(crate) async fn find(session: &mut Session, table: &str) -> Result<FoundTable, StoreError> {
    let (columns, indexes) = match session.dialect() {
        Dialect::MySql => (
            "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), \
             CAST(character_maximum_length AS SIGNED) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = ?",
            "SELECT CAST(column_name AS CHAR) FROM information_schema.statistics \
             WHERE table_schema = DATABASE() AND table_name = ? AND seq_in_index = 1",
        ),
        Dialect::Sqlite => (
            "SELECT name, lower(type), NULL FROM pragma_table_info(?)",
            "SELECT ii.name FROM pragma_index_list(?) AS il, pragma_index_info(il.name) AS ii \
             WHERE ii.seqno = 0 AND ii.name IS NOT NULL",
        ),
    };
    let mut found = FoundTable::default();
    session
        .each_row("reading the tables' columns", columns, vec![Arg::text(table)], &mut |row| {
            let name = row.text(0)?.unwrap_or_default().to_ascii_lowercase();
            let kind = row.text(1)?.unwrap_or_default().to_ascii_lowercase();
            found.columns.insert(name, FoundColumn { kind, characters: row.int(2)? });
            Ok(())
        })
        .await?;
    if !found.columns.is_empty() {
        session
            .each_row("reading the tables' indexes", indexes, vec![Arg::text(table)], &mut |row| {
                found.indexed.push(row.text(0)?.unwrap_or_default().to_ascii_lowercase());
                Ok(())
            })
            .await?;
    }
    Ok(found)
}

/// The oldest tables had the port's id as the primary key: they are not of the kind that the agents read.
fn check(session: &Session, table: &Table, found: &FoundTable) -> Result<(), StoreError> {
    for column in table.columns.iter().filter(|column| matches!(column.kind, Kind::Id)) {
        let kind = found.columns.get(column.name).map_or("missing", |found| found.kind.as_str());
        if !kind.contains("int") {
            return Err(StoreError::ForeignTable {
                place: session.place().clone(),
                table: table.name,
                reason: format!(
                    "column {} is {kind}, not a whole number; rename the table and start the controller again",
                    column.name
                ),
            });
        }
    }
    Ok(())
}

async fn add_columns(session: &mut Session, table: &Table, found: &FoundTable) -> Result<(), StoreError> {
    let dialect = session.dialect();
    let missing = |column: &&Column| !found.columns.contains_key(column.name);
    let additions = table.columns.iter().filter(missing);
    let additions =
        additions.map(|column| format!("ADD COLUMN {}", column.definition(dialect, Place::OldTable)));
    match dialect {
        Dialect::MySql => {
            // One statement: all of it or nothing, and one rewrite of the table where the server needs one.
            let widenings = table.columns.iter().filter_map(|column| {
                column.widening(found.columns.get(column.name).and_then(|found| found.characters))
            });
            let changes: Vec<String> = additions.chain(widenings).collect();
            if !changes.is_empty() {
                let sql = format!("ALTER TABLE {} {}", table.name, changes.join(", "));
                session.command("adding columns to a table", &sql).await?;
            }
        }
        // SQLite adds one column at a time, and does not enforce widths.
        Dialect::Sqlite => {
            for addition in additions {
                let sql = format!("ALTER TABLE {} {addition}", table.name);
                session.command("adding a column to a table", &sql).await?;
            }
        }
    }
    Ok(())
}

async fn add_indexes(session: &mut Session, table: &Table, found: &FoundTable) -> Result<(), StoreError> {
    for column in table.lookups.iter().filter(|column| !found.indexed.iter().any(|name| name == *column)) {
        let name = table.name;
        let sql = format!("CREATE INDEX idx_{name}_{column} ON {name} ({column})");
        session.command("adding an index to a table", &sql).await?;
    }
    Ok(())
}

async fn fill_meta(session: &mut Session, table: &str) -> Result<(), StoreError> {
    let version = SCHEMA_VERSION.to_string();
    let mut found = HashMap::new();
    let sql = format!("SELECT name, value FROM {table}");
    session
        .each_row("reading the tables' meta data", &sql, Vec::new(), &mut |row| {
            if let (Some(name), Some(value)) = (row.text(0)?, row.text(1)?) {
                found.insert(name.to_owned(), value.to_owned());
            }
            Ok(())
        })
        .await?;
    let dialect = session.dialect();
    for (name, value) in [
        ("epoch", dialect.random_text().to_owned()),
        ("revision", "'0'".to_owned()),
        ("schema_version", format!("'{version}'")),
    ] {
        if !found.contains_key(name) {
            let sql = format!("{} {table} (name, value) VALUES ('{name}', {value})", dialect.insert_ignore());
            session.command("filling the tables' meta data", &sql).await?;
        }
    }
    // A newer version of this project may have been here: its number stays.
    let older = found.get("schema_version").and_then(|text: &String| text.parse::<u32>().ok());
    if older.is_some_and(|older| older < SCHEMA_VERSION) {
        let sql = format!("UPDATE {table} SET value = ? WHERE name = 'schema_version'");
        session.execute("filling the tables' meta data", &sql, vec![Arg::Text(version)]).await?;
    }
    Ok(())
}
