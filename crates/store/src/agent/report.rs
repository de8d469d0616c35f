//! What an agent writes back.

use multinic_core::NodeName;
use multinic_core::desired::{EntryId, NicReport, Outcome};

use super::layout::Layout;
use crate::error::StoreError;
use crate::publish::list_text;
use crate::session::{Arg, Session};

/// A column of text is at most this long on MariaDB and MySQL, in bytes.
const MAX_TEXT: usize = 65_535;

pub(super) async fn write(
    session: &mut Session,
    node: &NodeName,
    layout: &Layout,
    reports: &[NicReport],
    released: &[EntryId],
) -> Result<(), StoreError> {
    session.begin_write().await?;
    update(session, node, layout, reports, released).await?;
    session.commit().await
}

/// Whether a report may be written. The statements are those of a report, about entries that no table has, and nothing of them
/// stays.
pub(super) async fn rehearse(
    session: &mut Session,
    node: &NodeName,
    layout: &Layout,
) -> Result<(), StoreError> {
    // The ids of all tables count up from 1.
    let entry = EntryId(-1);
    let outcome = Outcome::Failed { name: None, error: String::new() };
    session.begin_write().await?;
    update(session, node, layout, &[NicReport { entry, revision: 0, outcome }], &[entry]).await?;
    session.roll_back().await
}

async fn update(
    session: &mut Session,
    node: &NodeName,
    layout: &Layout,
    reports: &[NicReport],
    released: &[EntryId],
) -> Result<(), StoreError> {
    // Always in the same order, so that two reports never wait for each other.
    let mut reports: Vec<&NicReport> = reports.iter().collect();
    reports.sort_by_key(|report| report.entry);
    for report in reports {
        let (sql, args) = statement(node, layout, report);
        let written = session.execute("reporting an interface", &sql, args).await?;
        if written == 0 {
            tracing::debug!(entry = report.entry.0, revision = report.revision, "report is outdated");
        }
    }
    if layout.removals {
        let sql = "UPDATE multi_removal SET released_at = CURRENT_TIMESTAMP \
                   WHERE id = ? AND node_name = ? AND released_at IS NULL";
        for entry in released {
            session.execute("reporting a release", sql, vec![Arg::Int(entry.0), Arg::text(node)]).await?;
        }
    }
    Ok(())
}

fn statement(node: &NodeName, layout: &Layout, report: &NicReport) -> (String, Vec<Arg>) {
    let NicReport { entry, revision, outcome } = report;
    let (success, name, addresses, error) = match outcome {
        Outcome::Applied { name, addresses } => (1, Some(*name), Some(list_text(addresses)), None),
        Outcome::Failed { name, error } => (0, *name, None, Some(cut(error))),
    };
    let mut sets = Vec::new();
    let mut args = Vec::new();
    for (column, value) in [
        ("netplan_success", Arg::Int(success)),
        ("observed_name", Arg::optional(name)),
        ("observed_addresses", Arg::optional(addresses)),
        ("last_error", Arg::optional(error)),
    ] {
        if layout.has(column) {
            sets.push(format!("{column} = ?"));
            args.push(value);
        }
    }
    for column in ["observed_at", "modified_at"] {
        if layout.has(column) {
            sets.push(format!("{column} = CURRENT_TIMESTAMP"));
        }
    }
    let mut sql =
        format!("UPDATE multi_interface SET {} WHERE id = ? AND attached_node_name = ?", sets.join(", "));
    args.extend([Arg::Int(entry.0), Arg::text(node)]);
    if layout.has("revision") {
        sql.push_str(" AND COALESCE(revision, 0) = ?");
        args.push(Arg::Int(i64::try_from(*revision).unwrap_or(i64::MAX)));
    }
    if layout.has("deleted_at") {
        sql.push_str(" AND deleted_at IS NULL");
    }
    (sql, args)
}

fn cut(error: &str) -> &str {
    let mut end = error.len().min(MAX_TEXT);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.get(..end).unwrap_or_default()
}
