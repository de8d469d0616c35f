//! The nodes' table: one row per node name, with the server that bears the name now.
//!
//! Both columns are unique in the older tables and interfaces refer to both, so a server rebuilt under its old name,
//! a server renamed, or two that swap names must never meet half-way: interfaces let go of the server ids that change,
//! the ids go through placeholders, and interfaces take hold again.

use std::collections::{BTreeMap, HashMap, HashSet};

use multinic_core::published::Publication;
use multinic_core::{NodeName, ServerId};
use sha2::{Digest, Sha256};

use super::removals::Leaving;
use super::{MAX_ARGS, placeholders};
use crate::dialect::Dialect;
use crate::error::StoreError;
use crate::session::{Arg, Session};

/// What the table is to hold.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Nodes {
    /// The server id of each node, by [`key`].
    servers: HashMap<String, String>,
    ignore_case: bool,
    /// Rows whose server id changes: row, name, old id, new id.
    changes: Vec<Change>,
    new: Vec<(String, String)>,
    /// Rows that were retired and are wanted again.
    revived: Vec<i64>,
    /// Names whose server has another name now.
    displaced: Vec<String>,
    old_servers: HashSet<String>,
}

#[derive(Debug, PartialEq)]
struct Change {
    row: i64,
    name: String,
    old: String,
    new: String,
}

#[derive(Debug, Clone)]
struct Found {
    row: i64,
    server: String,
    name: String,
    active: bool,
}

/// MariaDB and MySQL hold names to be equal that differ in case alone; a unique column can then hold only one of them.
/// Such names share a row. Which interface belongs to which is told by the exact name in the interface's own row.
fn key(name: &str, ignore_case: bool) -> String {
    if ignore_case { name.to_ascii_lowercase() } else { name.to_owned() }
}

/// Stands for the server of a node that has none of its own; the same at every publication. No server has such an id.
fn placeholder(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().take(17).map(|byte| format!("{byte:02x}")).collect();
    format!("~{hex}")
}

/// Whether a server's id is none, but stands for one.
pub(crate) fn is_placeholder(server: &str) -> bool {
    server.starts_with('~')
}

pub(super) async fn plan(session: &mut Session, publication: &Publication) -> Result<Nodes, StoreError> {
    let mut found = Vec::new();
    let sql = "SELECT id, attached_node_id, attached_node_name, \
               CASE WHEN deleted_at IS NULL AND status = 'active' THEN 1 ELSE 0 END FROM node_table ORDER BY id";
    session
        .each_row("reading node_table", sql, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(|text| text.unwrap_or_default().to_owned());
            found.push(Found {
                row: row.int(0)?.unwrap_or_default(),
                server: text(1)?,
                name: text(2)?,
                active: row.int(3)? == Some(1),
            });
            Ok(())
        })
        .await?;
    Ok(compare(&found, &servers_of(publication), session.dialect() == Dialect::MySql))
}

/// The server of each node: the one of most of its interfaces, while a port of an earlier one is still there.
fn servers_of(publication: &Publication) -> BTreeMap<NodeName, ServerId> {
    let mut counts: BTreeMap<&NodeName, BTreeMap<&ServerId, usize>> = BTreeMap::new();
    for desired in &publication.interfaces {
        *counts.entry(&desired.node).or_default().entry(&desired.interface.device).or_default() += 1;
    }
    let most = |servers: BTreeMap<&ServerId, usize>| {
        let most = servers.values().max().copied();
        servers.into_iter().find(|(_, count)| Some(*count) == most).map(|(server, _)| server.clone())
    };
    counts.into_iter().filter_map(|(node, servers)| Some((node.clone(), most(servers)?))).collect()
}

fn compare(found: &[Found], wanted: &BTreeMap<NodeName, ServerId>, ignore_case: bool) -> Nodes {
    let mut nodes = Nodes { ignore_case, ..Nodes::default() };
    let rows: HashMap<String, &Found> = found.iter().map(|row| (key(&row.name, ignore_case), row)).collect();
    let mut names: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for (name, server) in wanted {
        names.entry(key(name.as_str(), ignore_case)).or_insert((name.as_str(), server.as_str()));
    }
    // Who has a server id already keeps it; who wants one that is free gets it; a second name for the same server has
    // to do with a placeholder.
    let mut taken: HashMap<&str, &str> = HashMap::new();
    for (key, (_, server)) in &names {
        if rows.get(key).is_some_and(|row| row.server == *server) {
            taken.insert(server, key);
        }
    }
    for (key, (_, server)) in &names {
        taken.entry(server).or_insert(key);
    }
    for (key, (name, server)) in &names {
        let own = taken.get(server).is_some_and(|owner| owner == key);
        let server = if own { (*server).to_owned() } else { placeholder(name) };
        match rows.get(key) {
            None => nodes.new.push(((*name).to_owned(), server.clone())),
            Some(row) => {
                if row.server != server {
                    nodes.change(row, server.clone());
                }
                if !row.active {
                    nodes.revived.push(row.row);
                }
            }
        }
        nodes.servers.insert(key.clone(), server);
    }
    for row in found {
        let key = key(&row.name, ignore_case);
        if !names.contains_key(&key) {
            let displaced = taken.contains_key(row.server.as_str());
            let server = if displaced { placeholder(&row.name) } else { row.server.clone() };
            if displaced {
                nodes.change(row, server.clone());
                nodes.displaced.push(row.name.clone());
            }
            nodes.servers.insert(key, server);
        }
    }
    nodes
}

impl Nodes {
    fn change(&mut self, row: &Found, new: String) {
        self.old_servers.insert(row.server.clone());
        self.changes.push(Change { row: row.row, name: row.name.clone(), old: row.server.clone(), new });
    }

    /// What `attached_node_id` of an interface on this node is to be.
    pub(super) fn server(&self, node: &str) -> Option<&str> {
        self.servers.get(&key(node, self.ignore_case)).map(String::as_str)
    }

    /// Whether interfaces that name this server id were made to let go of it.
    pub(super) fn detached(&self, server: &str) -> bool {
        self.old_servers.contains(server)
    }

    pub(super) async fn write(&self, session: &mut Session) -> Result<u64, StoreError> {
        let attempted = "writing node_table";
        let mut writes = 0;
        for part in self.changes.chunks(MAX_ARGS) {
            let sql = format!(
                "UPDATE multi_interface SET attached_node_id = NULL WHERE attached_node_id IN ({})",
                placeholders(part.len())
            );
            let args = part.iter().map(|change| Arg::text(&change.old)).collect();
            session.execute("detaching interfaces from their servers", &sql, args).await?;
        }
        let sql = "UPDATE node_table SET attached_node_id = ?, modified_at = CURRENT_TIMESTAMP WHERE id = ?";
        // The row's number keeps these apart from one another, '!' from every id and placeholder.
        for Change { row, .. } in &self.changes {
            session.execute(attempted, sql, vec![Arg::Text(format!("!{row}")), Arg::Int(*row)]).await?;
        }
        for Change { row, new, .. } in &self.changes {
            writes += session.execute(attempted, sql, vec![Arg::text(new), Arg::Int(*row)]).await?;
        }
        for part in self.new.chunks(MAX_ARGS / 2) {
            let rows = vec!["(?, ?, 'active', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"; part.len()].join(", ");
            let sql = format!(
                "INSERT INTO node_table \
                 (attached_node_name, attached_node_id, status, created_at, modified_at) VALUES {rows}"
            );
            let args = part.iter().flat_map(|(name, server)| [Arg::text(name), Arg::text(server)]).collect();
            writes += session.execute(attempted, &sql, args).await?;
        }
        for part in self.revived.chunks(MAX_ARGS) {
            let sql = format!(
                "UPDATE node_table SET status = 'active', deleted_at = NULL, modified_at = CURRENT_TIMESTAMP \
                 WHERE id IN ({})",
                placeholders(part.len())
            );
            writes += session.execute(attempted, &sql, part.iter().map(|id| Arg::Int(*id)).collect()).await?;
        }
        Ok(writes)
    }

    /// Nodes that may have lost their last interface get a time from which they can be purged.
    pub(super) async fn retire_empty(
        &self,
        session: &mut Session,
        leaving: &[Leaving],
    ) -> Result<u64, StoreError> {
        let names = leaving.iter().map(|leaving| leaving.node.as_str());
        let mut names: Vec<&str> = names.chain(self.displaced.iter().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        let mut writes = 0;
        for part in names.chunks(MAX_ARGS) {
            let sql = format!(
                "UPDATE node_table SET status = 'deleted', deleted_at = CURRENT_TIMESTAMP, \
                 modified_at = CURRENT_TIMESTAMP \
                 WHERE attached_node_name IN ({}) AND deleted_at IS NULL AND NOT EXISTS \
                 (SELECT 1 FROM multi_interface mi WHERE mi.attached_node_name = node_table.attached_node_name \
                 AND mi.deleted_at IS NULL)",
                placeholders(part.len())
            );
            let args = part.iter().map(|name| Arg::text(*name)).collect();
            writes += session.execute("retiring nodes without interfaces", &sql, args).await?;
        }
        Ok(writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[(&str, &str)]) -> Vec<Found> {
        let rows = rows.iter().zip(1..);
        rows.map(|((name, server), row)| Found {
            row,
            server: (*server).into(),
            name: (*name).into(),
            active: true,
        })
        .collect()
    }

    fn wanted(rows: &[(&str, &str)]) -> BTreeMap<NodeName, ServerId> {
        rows.iter().map(|(name, server)| (name.parse().unwrap(), ServerId::from(*server))).collect()
    }

    /// The table after the plan was carried out.
    fn after(before: &[Found], nodes: &Nodes) -> BTreeMap<String, String> {
        let mut rows: BTreeMap<String, String> =
            before.iter().map(|row| (row.name.clone(), row.server.clone())).collect();
        for Change { name, new, .. } in &nodes.changes {
            rows.insert(name.clone(), new.clone());
        }
        rows.extend(nodes.new.iter().cloned());
        rows
    }

    #[test]
    fn a_second_plan_changes_nothing_and_no_server_has_two_rows() {
        let before = found(&[("a", "1"), ("b", "2"), ("c", "3")]);
        for names in [
            &[("a", "1"), ("b", "2"), ("c", "3")][..],
            // rebuilt, renamed, swapped, two names for one server
            &[("a", "9")],
            &[("d", "1")],
            &[("a", "2"), ("b", "1")],
            &[("a", "2"), ("b", "3"), ("c", "1")],
            &[("a", "1"), ("x", "1"), ("y", "1")],
            &[("a", "2")],
        ] {
            let nodes = compare(&before, &wanted(names), false);
            let rows = after(&before, &nodes);
            let servers: HashSet<&String> = rows.values().collect();
            assert_eq!(servers.len(), rows.len(), "{names:?}: {rows:?}");
            let rows: Vec<(&str, &str)> = rows.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let again = compare(&found(&rows), &wanted(names), false);
            assert!(again.changes.is_empty() && again.new.is_empty(), "{names:?}: {again:?}");
        }
    }

    #[test]
    fn names_that_differ_in_case_share_a_row_where_the_database_ignores_case() {
        let before = found(&[("Worker-1", "1")]);
        let nodes = compare(&before, &wanted(&[("worker-1", "1")]), true);
        assert!(nodes.changes.is_empty() && nodes.new.is_empty(), "{nodes:?}");
        assert_eq!(compare(&before, &wanted(&[("worker-1", "1")]), false).new.len(), 1);
    }
}
