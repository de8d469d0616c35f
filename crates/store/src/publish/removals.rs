//! The table of removals: what a node has to take away, told to it until it says that it is done.

use std::collections::{HashMap, HashSet};

use super::{MAX_ARGS, placeholders};
use crate::error::StoreError;
use crate::session::{Arg, Session};

/// A MAC that a row no longer gives to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) node: String,
    /// In lower case.
    pub(super) mac: String,
    pub(super) port: String,
    pub(super) slot: Option<i64>,
    pub(super) reason: &'static str,
    /// Namespace and name of the configuration.
    pub(super) owner: [String; 2],
    pub(super) device: Option<String>,
    pub(super) project: Option<String>,
}

const COLUMNS: [&str; 10] = [
    "node_name",
    "macaddress",
    "port_id",
    "slot",
    "reason",
    "revision",
    "cr_namespace",
    "cr_name",
    "device_id",
    "project_id",
];

/// Records what leaves, unless another row gives the same MAC to the same node; withdraws removals whose MAC is wanted
/// on the node again. The interfaces have been written by now.
pub(super) async fn write(
    session: &mut Session,
    leaving: &[Leaving],
    revision: u64,
) -> Result<u64, StoreError> {
    let mut open: HashMap<(String, String), Vec<i64>> = HashMap::new();
    let sql = "SELECT id, node_name, macaddress FROM multi_removal WHERE released_at IS NULL";
    session
        .each_row("reading multi_removal", sql, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(Option::unwrap_or_default);
            let key = (text(1)?.to_owned(), text(2)?.to_ascii_lowercase());
            open.entry(key).or_default().push(row.int(0)?.unwrap_or_default());
            Ok(())
        })
        .await?;
    let nodes: HashSet<&str> =
        open.keys().map(|(node, _)| node.as_str()).chain(leaving.iter().map(|l| l.node.as_str())).collect();
    let wanted = wanted_on(session, nodes.into_iter().collect()).await?;

    let withdrawn: Vec<i64> = open
        .iter()
        .filter(|(key, _)| wanted.contains(*key))
        .flat_map(|(_, ids)| ids.iter().copied())
        .collect();
    let mut writes = 0;
    for part in withdrawn.chunks(MAX_ARGS) {
        let sql = format!("DELETE FROM multi_removal WHERE id IN ({})", placeholders(part.len()));
        let args = part.iter().map(|id| Arg::Int(*id)).collect();
        writes += session.execute("withdrawing removals", &sql, args).await?;
    }

    let mut seen = HashSet::new();
    let new: Vec<&Leaving> = leaving
        .iter()
        .filter(|leaving| {
            let key = (leaving.node.clone(), leaving.mac.clone());
            !wanted.contains(&key) && !open.contains_key(&key) && seen.insert(key)
        })
        .collect();
    for part in new.chunks(MAX_ARGS / COLUMNS.len()) {
        let row = format!("({}, CURRENT_TIMESTAMP)", placeholders(COLUMNS.len()));
        let sql = format!(
            "INSERT INTO multi_removal ({}, created_at) VALUES {}",
            COLUMNS.join(", "),
            vec![row; part.len()].join(", ")
        );
        let args = part.iter().flat_map(|leaving| {
            let Leaving { node, mac, port, slot, reason, owner: [namespace, name], device, project } =
                leaving;
            let revision = Arg::Int(i64::try_from(revision).unwrap_or(i64::MAX));
            let texts = [node, mac, port].map(Arg::text);
            let whose = [Arg::text(namespace), Arg::text(name), Arg::optional(device.as_deref())];
            let rest = [Arg::optional_int(*slot), Arg::text(*reason), revision];
            texts.into_iter().chain(rest).chain(whose).chain([Arg::optional(project.as_deref())])
        });
        writes += session.execute("recording removals", &sql, args.collect()).await?;
    }
    Ok(writes)
}

/// The MACs that these nodes are to have, with the nodes' exact names.
async fn wanted_on(session: &mut Session, nodes: Vec<&str>) -> Result<HashSet<(String, String)>, StoreError> {
    let mut wanted = HashSet::new();
    for part in nodes.chunks(MAX_ARGS) {
        let sql = format!(
            "SELECT attached_node_name, macaddress FROM multi_interface \
             WHERE attached_node_name IN ({}) AND deleted_at IS NULL",
            placeholders(part.len())
        );
        session
            .each_row(
                "reading multi_interface",
                &sql,
                part.iter().map(|name| Arg::text(*name)).collect(),
                &mut |row| {
                    let text = |column| row.text(column).map(Option::unwrap_or_default);
                    wanted.insert((text(0)?.to_owned(), text(1)?.to_ascii_lowercase()));
                    Ok(())
                },
            )
            .await?;
    }
    Ok(wanted)
}
