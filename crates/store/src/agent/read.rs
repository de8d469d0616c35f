//! One read of a node's desired state.

use std::collections::HashMap;

use multinic_core::desired::{DesiredNic, DesiredState, EntryId, InvalidEntry, Tombstone};
use multinic_core::{MacAddr, NodeName};

use super::entry::{Entry, read as read_entry};
use super::layout::Layout;
use crate::error::StoreError;
use crate::position::position;
use crate::session::{Arg, Session};

pub(super) async fn read(
    session: &mut Session,
    node: &NodeName,
    layout: &Layout,
) -> Result<DesiredState, StoreError> {
    session.begin_read().await?;
    let mut state = DesiredState::default();
    let name = || vec![Arg::text(node)];
    if layout.meta {
        state.position = Some(position(session).await?);
    }
    session
        .each_row("reading multi_interface", &layout.select(), name(), &mut |row| {
            match read_entry(row, node.as_str(), layout)? {
                Entry::Nic(nic) => state.nics.push(nic),
                Entry::Invalid(entry) => state.invalid.push(entry),
                Entry::Tombstone(tombstone) => state.tombstones.push(tombstone),
                Entry::None => return Ok(()),
            }
            state.node_known = true;
            Ok(())
        })
        .await?;
    if layout.removals {
        removals(session, node, &mut state).await?;
    }
    if layout.nodes && !state.node_known {
        let sql = "SELECT attached_node_name FROM node_table WHERE attached_node_name = ?";
        session
            .each_row("reading node_table", sql, name(), &mut |row| {
                state.node_known |= row.text(0)? == Some(node.as_str());
                Ok(())
            })
            .await?;
    }
    session.commit().await?;
    refuse_doubles(&mut state);
    // What is wanted is not taken away, whatever else names it; nor is what may be wanted and cannot be read.
    let DesiredState { nics, invalid, tombstones, .. } = &mut state;
    tombstones.retain(|tombstone| {
        !nics.iter().any(|nic| nic.mac == tombstone.mac)
            && !invalid.iter().any(|entry| entry.mac == Some(tombstone.mac))
    });
    Ok(state)
}

async fn removals(
    session: &mut Session,
    node: &NodeName,
    state: &mut DesiredState,
) -> Result<(), StoreError> {
    let sql = "SELECT id, node_name, macaddress FROM multi_removal \
               WHERE node_name = ? AND released_at IS NULL ORDER BY id";
    session
        .each_row("reading multi_removal", sql, vec![Arg::text(node)], &mut |row| {
            if row.text(1)? != Some(node.as_str()) {
                return Ok(());
            }
            state.node_known = true;
            let id = row.int(0)?.unwrap_or_default();
            // A removal of what cannot be a NIC was copied from an older program's row: there is nothing to take away.
            if let Ok(mac) = row.text(2)?.unwrap_or_default().parse::<MacAddr>() {
                let known = state.tombstones.iter_mut().find(|tombstone| tombstone.mac == mac);
                match known {
                    Some(known) => known.entry = Some(EntryId(id)),
                    None => state.tombstones.push(Tombstone { entry: Some(EntryId(id)), mac }),
                }
            }
            Ok(())
        })
        .await
}

/// One NIC cannot be two interfaces: none of the entries that name its MAC is used.
fn refuse_doubles(state: &mut DesiredState) {
    let mut counts: HashMap<MacAddr, Vec<EntryId>> = HashMap::new();
    for nic in &state.nics {
        counts.entry(nic.mac).or_default().push(nic.entry);
    }
    let double = |mac: &MacAddr| counts.get(mac).is_some_and(|entries| entries.len() > 1);
    let (doubles, nics): (Vec<DesiredNic>, _) = state.nics.drain(..).partition(|nic| double(&nic.mac));
    state.nics = nics;
    for DesiredNic { entry, revision, mac, reported, .. } in doubles {
        let others = counts.get(&mac).into_iter().flatten().filter(|other| **other != entry);
        let others: Vec<String> = others.map(|other| other.0.to_string()).collect();
        let reason = format!("macaddress: row {} of this node has {mac} too", others.join(", "));
        state.invalid.push(InvalidEntry { entry, revision, mac: Some(mac), reason, reported });
    }
}
