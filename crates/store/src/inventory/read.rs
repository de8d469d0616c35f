//! Queries.

use super::record::{Filter, Record, RecordKey};
use crate::error::StoreError;
use crate::session::{Arg, Row, RowError, Session};

/// How far the store is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// Names this store: another one, or one that was made anew, has another.
    pub epoch: String,
    /// The last change.
    pub revision: u64,
    /// Removals up to this revision are forgotten: who saw less must read everything again.
    pub compacted: u64,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// After which record the next page begins; none where this is the last.
    pub next: Option<RecordKey>,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSummary {
    /// The provider.
    pub provider_id: String,
    /// How many nodes it has here.
    pub node_count: u64,
    /// When the last of them changed.
    pub updated_at: String,
    /// The nodes by name.
    pub nodes: Vec<NodeSummary>,
}

/// One node in a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSummary {
    /// The node's name.
    pub node_name: String,
    /// The Nova server.
    pub instance_id: String,
    /// How many NICs it is to have.
    pub interface_count: u64,
    /// When its configuration last changed.
    pub updated_at: String,
}

/// A change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its revision.
    pub revision: u64,
    /// The record as it is now, or as it was when it went.
    pub record: Record,
    /// Whether it is gone.
    pub gone: bool,
}

const COLUMNS: &str = "provider_id, node_name, instance_id, config, config_hash, updated_at, observed";

pub(super) async fn position(session: &mut Session) -> Result<Position, StoreError> {
    let mut position = Position::default();
    let sql = "SELECT name, value FROM inventory_meta WHERE name IN ('epoch', 'revision', 'compacted')";
    session
        .each_row("reading the inventory's revision", sql, Vec::new(), &mut |row| {
            let value = text(row, 1)?;
            match row.text(0)? {
                Some("epoch") => position.epoch = value,
                Some("revision") => position.revision = number(&value, "revision")?,
                _ => position.compacted = number(&value, "compacted")?,
            }
            Ok(())
        })
        .await?;
    Ok(position)
}

pub(super) fn number(value: &str, name: &str) -> Result<u64, RowError> {
    value.parse().map_err(|error: std::num::ParseIntError| RowError::Content {
        table: "inventory_meta",
        row: name.to_owned(),
        column: "value",
        reason: error.to_string(),
    })
}

pub(super) async fn list(
    session: &mut Session,
    filter: &Filter,
    after: Option<&RecordKey>,
    limit: u32,
) -> Result<Page, StoreError> {
    let Filter { provider_id, node_name, instance_id } = filter;
    let mut sql = format!("SELECT {COLUMNS} FROM inventory_record WHERE deleted = 0");
    let mut args = Vec::new();
    for (column, value) in
        [("provider_id", provider_id), ("node_name", node_name), ("instance_id", instance_id)]
    {
        if let Some(value) = value {
            sql.push_str(&format!(" AND {column} = ?"));
            args.push(Arg::text(value));
        }
    }
    if let Some(RecordKey { provider_id, node_name }) = after {
        // The first comparison alone lets every server begin within the key's index.
        sql.push_str(" AND provider_id >= ? AND (provider_id > ? OR node_name > ?)");
        args.extend([Arg::text(provider_id), Arg::text(provider_id), Arg::text(node_name)]);
    }
    sql.push_str(&format!(" ORDER BY provider_id, node_name LIMIT {}", u64::from(limit) + 1));
    let mut page = Page::default();
    session
        .each_row("reading inventory_record", &sql, args, &mut |row| {
            page.records.push(record(row)?);
            Ok(())
        })
        .await?;
    if page.records.len() > limit as usize {
        page.records.truncate(limit as usize);
        page.next = page.records.last().map(|record| record.key.clone());
    }
    Ok(page)
}

pub(super) async fn providers(session: &mut Session) -> Result<Vec<ProviderSummary>, StoreError> {
    let mut providers: Vec<ProviderSummary> = Vec::new();
    let sql = "SELECT provider_id, COUNT(*), MAX(updated_at) FROM inventory_record WHERE deleted = 0 \
               GROUP BY provider_id ORDER BY provider_id";
    session
        .each_row("summing inventory_record up", sql, Vec::new(), &mut |row| {
            let node_count = count(row, 1)?;
            providers.push(ProviderSummary {
                provider_id: text(row, 0)?,
                node_count,
                updated_at: text(row, 2)?,
                nodes: Vec::with_capacity(usize::try_from(node_count).unwrap_or_default()),
            });
            Ok(())
        })
        .await?;
    let sql = "SELECT provider_id, node_name, instance_id, interface_count, updated_at FROM inventory_record \
               WHERE deleted = 0 ORDER BY provider_id, node_name";
    let mut summaries = providers.iter_mut().peekable();
    session
        .each_row("reading inventory_record", sql, Vec::new(), &mut |row| {
            let provider = row.text(0)?.unwrap_or_default();
            // Both answers are of one moment and in one order.
            while summaries.next_if(|summary| summary.provider_id != provider).is_some() {}
            if let Some(summary) = summaries.peek_mut() {
                summary.nodes.push(NodeSummary {
                    node_name: text(row, 1)?,
                    instance_id: text(row, 2)?,
                    interface_count: count(row, 3)?,
                    updated_at: text(row, 4)?,
                });
            }
            Ok(())
        })
        .await?;
    Ok(providers)
}

pub(super) async fn changes(
    session: &mut Session,
    after: u64,
    limit: u32,
) -> Result<Vec<Change>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, revision, deleted FROM inventory_record WHERE revision > ? ORDER BY revision LIMIT {limit}"
    );
    let mut changes = Vec::new();
    let after = vec![Arg::Int(i64::try_from(after).unwrap_or(i64::MAX))];
    session
        .each_row("reading inventory_record", &sql, after, &mut |row| {
            changes.push(Change {
                record: record(row)?,
                revision: count(row, 7)?,
                gone: row.int(8)? == Some(1),
            });
            Ok(())
        })
        .await?;
    Ok(changes)
}

fn record(row: &Row<'_>) -> Result<Record, RowError> {
    Ok(Record {
        key: RecordKey { provider_id: text(row, 0)?, node_name: text(row, 1)? },
        instance_id: text(row, 2)?,
        config: text(row, 3)?,
        last_config_hash: text(row, 4)?,
        updated_at: text(row, 5)?,
        observed: row.text(6)?.map(str::to_owned),
    })
}

pub(super) fn text(row: &Row<'_>, column: usize) -> Result<String, RowError> {
    Ok(row.text(column)?.unwrap_or_default().to_owned())
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, RowError> {
    Ok(row.int(column)?.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
}
