//! Changes, each in one transaction that holds the revision's row, so that revisions are committed in their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::import::OldRecord;
use super::observed::{NodeObservation, Observed};
use super::read::{number, text};
use super::record::{Entry, RecordKey, time_text};
use crate::error::StoreError;
use crate::session::{Arg, Session};

/// How many rows one statement takes: with the largest configurations still below a server's smallest packet limit.
const ROWS: usize = 100;
/// How many names one query asks for.
const NAMES: usize = 1000;

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// How many records were written.
    pub records: u64,
    /// The revision of the last of them; none where nothing was written.
    pub revision: Option<u64>,
}

/// What is compared of a row that is there.
struct Found {
    hash: String,
    instance_id: String,
    observed: Option<String>,
    deleted: bool,
}

type Rows = HashMap<RecordKey, Found>;

pub(super) async fn apply(session: &mut Session, entries: &[Entry]) -> Result<Written, StoreError> {
    // The last of several for the same node is the newest.
    let entries: BTreeMap<&RecordKey, &Entry> = entries.iter().map(|entry| (&entry.key, entry)).collect();
    let differs = |rows: &Rows, entry: &Entry| {
        let found = rows.get(&entry.key).filter(|found| !found.deleted);
        found.is_none_or(|found| found.hash != entry.hash || found.instance_id != entry.instance_id)
    };
    // Looked at without the lock first: mostly nothing differs, and then nothing waits for anybody.
    let rows = find(session, entries.keys().copied()).await?;
    let changed: Vec<&Entry> = entries.into_values().filter(|entry| differs(&rows, entry)).collect();
    if changed.is_empty() {
        return Ok(Written::default());
    }
    session.begin_write().await?;
    let mut revision = lock(session).await?;
    let rows = find(session, changed.iter().map(|entry| &entry.key)).await?;
    let now = time_text(Timestamp::now());
    let (mut same_server, mut new_server) = (Vec::new(), Vec::new());
    for entry in changed.into_iter().filter(|entry| differs(&rows, entry)) {
        let before = rows.get(&entry.key).filter(|found| !found.deleted);
        let kept = before.is_some_and(|found| found.instance_id == entry.instance_id);
        let row = Fresh { entry, hash: &entry.hash, updated_at: &now };
        if kept { same_server.push(row) } else { new_server.push(row) }
    }
    let mut written = Written::default();
    insert(session, &same_server, KEEPING_OBSERVED, &mut revision, &mut written).await?;
    insert(session, &new_server, ALL, &mut revision, &mut written).await?;
    finish(session, revision, written).await
}

/// Old records are only added: what is here already is newer.
pub(super) async fn import(session: &mut Session, old: &[OldRecord]) -> Result<Written, StoreError> {
    session.begin_write().await?;
    let mut revision = lock(session).await?;
    let rows = find(session, old.iter().map(|old| &old.entry.key)).await?;
    let missing = old.iter().filter(|old| !rows.contains_key(&old.entry.key));
    let missing: Vec<Fresh<'_>> = missing
        .map(|old| Fresh { entry: &old.entry, hash: &old.hash, updated_at: &old.updated_at })
        .collect();
    let mut written = Written::default();
    insert(session, &missing, ALL, &mut revision, &mut written).await?;
    finish(session, revision, written).await
}

struct Fresh<'a> {
    entry: &'a Entry,
    hash: &'a str,
    updated_at: &'a str,
}

const KEEPING_OBSERVED: &[&str] =
    &["instance_id", "config", "config_hash", "interface_count", "updated_at", "revision", "deleted"];
const ALL: &[&str] = &[
    "instance_id",
    "config",
    "config_hash",
    "interface_count",
    "updated_at",
    "revision",
    "deleted",
    "observed",
];

async fn insert(
    session: &mut Session,
    rows: &[Fresh<'_>],
    set: &[&str],
    revision: &mut u64,
    written: &mut Written,
) -> Result<(), StoreError> {
    let instead = session.dialect().on_duplicate("provider_id, node_name", set);
    for part in rows.chunks(ROWS) {
        let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, 0, NULL)"; part.len()].join(", ");
        let sql = format!(
            "INSERT INTO inventory_record (provider_id, node_name, instance_id, config, config_hash, interface_count, \
             updated_at, revision, deleted, observed) VALUES {values} {instead}"
        );
        let mut args = Vec::with_capacity(part.len() * 8);
        for Fresh { entry, hash, updated_at } in part {
            let Entry { key, instance_id, config, hash: _, interface_count } = entry;
            *revision += 1;
            args.extend([
                Arg::text(&key.provider_id),
                Arg::text(&key.node_name),
                Arg::text(instance_id),
                Arg::text(config),
                Arg::text(*hash),
                Arg::Int(i64::try_from(*interface_count).unwrap_or(i64::MAX)),
                Arg::text(*updated_at),
                whole(*revision),
            ]);
        }
        session.execute("writing inventory_record", &sql, args).await?;
        written.records += part.len() as u64;
    }
    Ok(())
}

pub(super) async fn remove(
    session: &mut Session,
    keys: &[RecordKey],
    tombstones: Duration,
) -> Result<Written, StoreError> {
    let keys: BTreeSet<&RecordKey> = keys.iter().collect();
    let rows = find(session, keys.iter().copied()).await?;
    let there = |key: &&&RecordKey| rows.get(**key).is_some_and(|found| !found.deleted);
    let gone: Vec<RecordKey> = keys.iter().filter(there).map(|key| (*key).clone()).collect();
    mark_gone(session, &gone, tombstones).await
}

pub(super) async fn prune(
    session: &mut Session,
    provider: &str,
    keep: &BTreeSet<String>,
    tombstones: Duration,
) -> Result<Written, StoreError> {
    let mut gone = Vec::new();
    let sql = "SELECT node_name FROM inventory_record WHERE provider_id = ? AND deleted = 0";
    session
        .each_row("reading inventory_record", sql, vec![Arg::text(provider)], &mut |row| {
            let node_name = text(row, 0)?;
            if !keep.contains(&node_name) {
                gone.push(RecordKey { provider_id: provider.to_owned(), node_name });
            }
            Ok(())
        })
        .await?;
    mark_gone(session, &gone, tombstones).await
}

async fn mark_gone(
    session: &mut Session,
    gone: &[RecordKey],
    tombstones: Duration,
) -> Result<Written, StoreError> {
    if gone.is_empty() {
        return Ok(Written::default());
    }
    session.begin_write().await?;
    let mut revision = lock(session).await?;
    let now = Timestamp::now();
    let mut written = Written::default();
    let sql = "UPDATE inventory_record SET deleted = 1, revision = ?, updated_at = ?, observed = NULL \
               WHERE provider_id = ? AND node_name = ? AND deleted = 0";
    for RecordKey { provider_id, node_name } in gone {
        let args = vec![
            whole(revision + 1),
            Arg::Text(time_text(now)),
            Arg::text(provider_id),
            Arg::text(node_name),
        ];
        let touched = session.execute("removing from inventory_record", sql, args).await?;
        revision += touched.min(1);
        written.records += touched;
    }
    compact(session, now, tombstones).await?;
    finish(session, revision, written).await
}

/// Forgets what went long ago, and remembers how much that was.
async fn compact(session: &mut Session, now: Timestamp, tombstones: Duration) -> Result<(), StoreError> {
    let cutoff = now - jiff::SignedDuration::try_from(tombstones).unwrap_or(jiff::SignedDuration::MAX);
    let cutoff = || vec![Arg::Text(time_text(cutoff))];
    let mut last = None;
    let sql = "SELECT MAX(revision) FROM inventory_record WHERE deleted = 1 AND updated_at < ?";
    session
        .each_row("reading inventory_record", sql, cutoff(), &mut |row| {
            last = row.int(0)?;
            Ok(())
        })
        .await?;
    let Some(last) = last else { return Ok(()) };
    let sql = "DELETE FROM inventory_record WHERE deleted = 1 AND updated_at < ?";
    session.execute("forgetting removed records", sql, cutoff()).await?;
    let instead = session.dialect().on_duplicate("name", &["value"]);
    let sql = format!("INSERT INTO inventory_meta (name, value) VALUES ('compacted', ?) {instead}");
    session.execute("forgetting removed records", &sql, vec![Arg::text(&last)]).await.map(drop)
}

pub(super) async fn observe(
    session: &mut Session,
    nodes: &[(RecordKey, Observed)],
) -> Result<Written, StoreError> {
    let rows = find(session, nodes.iter().map(|(key, _)| key)).await?;
    let news: Vec<&(RecordKey, Observed)> = nodes
        .iter()
        .filter(|(key, observed)| {
            let found = rows.get(key).filter(|found| !found.deleted);
            found.is_some_and(|found| !observed.says_the_same(found.observed.as_deref()))
        })
        .collect();
    if news.is_empty() {
        return Ok(Written::default());
    }
    session.begin_write().await?;
    let mut revision = lock(session).await?;
    let mut written = Written::default();
    let sql = "UPDATE inventory_record SET observed = ?, revision = ? \
               WHERE provider_id = ? AND node_name = ? AND deleted = 0";
    for (RecordKey { provider_id, node_name }, observed) in news {
        let args = vec![
            Arg::Text(observed.to_json()),
            whole(revision + 1),
            Arg::text(provider_id),
            Arg::text(node_name),
        ];
        let touched = session.execute("writing what was observed", sql, args).await?;
        revision += touched.min(1);
        written.records += touched;
    }
    finish(session, revision, written).await
}

pub(super) async fn observe_nodes(
    session: &mut Session,
    nodes: &[NodeObservation],
) -> Result<Written, StoreError> {
    let by_name: HashMap<&str, &NodeObservation> =
        nodes.iter().map(|node| (node.node_name.as_str(), node)).collect();
    let mut found = Vec::new();
    let names: Vec<&str> = by_name.keys().copied().collect();
    for part in names.chunks(NAMES) {
        let sql = format!(
            "SELECT provider_id, node_name, instance_id FROM inventory_record WHERE deleted = 0 AND node_name IN ({})",
            crate::publish::placeholders(part.len())
        );
        let args = part.iter().map(|name| Arg::text(*name)).collect();
        session
            .each_row("reading inventory_record", &sql, args, &mut |row| {
                let key = RecordKey { provider_id: text(row, 0)?, node_name: text(row, 1)? };
                let instance = text(row, 2)?;
                if let Some(node) = by_name.get(key.node_name.as_str()) {
                    // Two providers may have a node of this name; the server tells whose it is.
                    if node.instance_id.as_ref().is_none_or(|seen| *seen == instance) {
                        found.push((key, node.observed.clone()));
                    }
                }
                Ok(())
            })
            .await?;
    }
    observe(session, &found).await
}

/// The rows of these keys, gone ones too.
async fn find<'a>(
    session: &mut Session,
    keys: impl Iterator<Item = &'a RecordKey>,
) -> Result<Rows, StoreError> {
    let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for key in keys {
        providers.entry(&key.provider_id).or_default().push(&key.node_name);
    }
    let mut rows = Rows::new();
    for (provider, names) in providers {
        for part in names.chunks(NAMES) {
            let sql = format!(
                "SELECT node_name, config_hash, instance_id, observed, deleted FROM inventory_record \
                 WHERE provider_id = ? AND node_name IN ({})",
                crate::publish::placeholders(part.len())
            );
            let names = part.iter().map(|name| Arg::text(*name));
            let args = std::iter::once(Arg::text(provider)).chain(names).collect();
            session
                .each_row("reading inventory_record", &sql, args, &mut |row| {
                    let key = RecordKey { provider_id: provider.to_owned(), node_name: text(row, 0)? };
                    let found = Found {
                        hash: text(row, 1)?,
                        instance_id: text(row, 2)?,
                        observed: row.text(3)?.map(str::to_owned),
                        deleted: row.int(4)? == Some(1),
                    };
                    rows.insert(key, found);
                    Ok(())
                })
                .await?;
        }
    }
    Ok(rows)
}

/// Locks the revision and returns it.
async fn lock(session: &mut Session) -> Result<u64, StoreError> {
    let tail = session.dialect().for_update();
    let sql = format!("SELECT value FROM inventory_meta WHERE name = 'revision'{tail}");
    let mut revision = None;
    session
        .each_row("locking the inventory's revision", &sql, Vec::new(), &mut |row| {
            revision = Some(number(&text(row, 0)?, "revision")?);
            Ok(())
        })
        .await?;
    revision.ok_or_else(|| StoreError::Missing {
        place: session.place().clone(),
        what: "row \"revision\" in table inventory_meta".to_owned(),
    })
}

async fn finish(session: &mut Session, revision: u64, mut written: Written) -> Result<Written, StoreError> {
    if written.records == 0 {
        session.roll_back().await?;
        return Ok(written);
    }
    let sql = "UPDATE inventory_meta SET value = ? WHERE name = 'revision'";
    session.execute("writing the inventory's revision", sql, vec![Arg::text(&revision)]).await?;
    session.commit().await?;
    written.revision = Some(revision);
    Ok(written)
}

fn whole(number: u64) -> Arg {
    Arg::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
