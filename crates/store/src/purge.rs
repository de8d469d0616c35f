//! Forgets what was taken away long enough ago.

use std::time::Duration;

use crate::error::StoreError;
use crate::session::Session;

/// Returns the number of tombstones and removals that went.
pub(crate) async fn purge(
    session: &mut Session,
    older_than: Duration,
    delivered: bool,
) -> Result<u64, StoreError> {
    let cutoff = session.dialect().seconds_ago(older_than.as_secs());
    let interfaces =
        format!("DELETE FROM multi_interface WHERE deleted_at IS NOT NULL AND deleted_at <= {cutoff}");
    let only = if delivered { " AND delivered_at IS NOT NULL" } else { "" };
    let removals = format!("DELETE FROM multi_removal WHERE created_at <= {cutoff}{only}");
    let mut count = session.execute("purging tombstones", &interfaces, Vec::new()).await?;
    count += session.execute("purging removals", &removals, Vec::new()).await?;
    // Those that were withdrawn too.
    let places = "DELETE FROM multi_removal_place WHERE NOT EXISTS \
                  (SELECT 1 FROM multi_removal mr WHERE mr.id = multi_removal_place.removal_id)";
    session.execute("purging removals", places, Vec::new()).await?;
    let slots = format!("DELETE FROM multi_slot WHERE created_at <= {cutoff}");
    session.execute("purging slots", &slots, Vec::new()).await?;
    // A node that an interface or a removal still names stays: its agent would otherwise be told that it is unknown.
    let nodes = format!(
        "DELETE FROM node_table WHERE deleted_at IS NOT NULL AND deleted_at <= {cutoff} \
         AND NOT EXISTS (SELECT 1 FROM multi_interface mi WHERE mi.attached_node_name = node_table.attached_node_name \
         OR mi.attached_node_id = node_table.attached_node_id) \
         AND NOT EXISTS (SELECT 1 FROM multi_removal mr WHERE mr.node_name = node_table.attached_node_name)"
    );
    session.execute("purging nodes", &nodes, Vec::new()).await?;
    let subnets = format!(
        "DELETE FROM multi_subnet WHERE COALESCE(modified_at, created_at) <= {cutoff} \
         AND NOT EXISTS (SELECT 1 FROM multi_interface mi WHERE mi.subnet_id = multi_subnet.subnet_id)"
    );
    session.execute("purging subnets", &subnets, Vec::new()).await?;
    Ok(count)
}
