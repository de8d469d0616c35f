//! Publishes: read what is there, write what differs, all in one transaction.
//!
//! A row's number (`id`) and its port belong together for as long as the row lives. What a node has to do something
//! about is a row's *content*: MAC, node, slot, addresses, MTU. Only a change of content makes the node's report void.

mod interfaces;
mod nodes;
mod removals;
mod settled;
mod subnets;

pub(crate) use interfaces::list_text;
pub(crate) use nodes::is_placeholder;

use multinic_core::published::Publication;

use crate::error::StoreError;
use crate::memory::CLAIMED;
use crate::session::Session;

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishOutcome {
    /// Interfaces that are new.
    pub inserted: u64,
    /// Interfaces of which something changed, also without consequence for the node.
    pub updated: u64,
    /// Interfaces that were as they should be.
    pub unchanged: u64,
    /// Interfaces that were taken away and have a tombstone now.
    pub removed: u64,
    /// Interfaces that had a tombstone and are wanted again.
    pub revived: u64,
    /// The revision of this publication; none where nothing was written.
    pub revision: Option<u64>,
}

pub(crate) async fn publish(
    session: &mut Session,
    publication: &Publication,
) -> Result<PublishOutcome, StoreError> {
    session.begin_write().await?;
    // The revision's row is the lock between two controllers; taken first, it also makes what is read below the newest.
    let revision = settled::next_revision(session).await?;
    if let Some(read) = publication.based_on.filter(|read| read.saturating_add(1) != revision) {
        let found = revision.saturating_sub(1);
        return Err(StoreError::Overtaken { place: session.place().clone(), read, found });
    }

    let nodes = nodes::plan(session, publication).await?;
    let subnets = subnets::plan(session, publication).await?;
    let interfaces = interfaces::plan(session, publication, &nodes).await?;
    let settled = settled::plan(session, publication).await?;

    let mut writes = nodes.write(session).await?;
    writes += subnets.write(session).await?;
    writes += interfaces.write(session, publication, &nodes, revision).await?;
    writes += removals::write(session, &interfaces.leaving, revision).await?;
    writes += nodes.retire_empty(session, &interfaces.leaving).await?;
    writes += settled.write(session).await?;

    let mut outcome = interfaces.outcome;
    if writes == 0 {
        session.roll_back().await?;
        return Ok(outcome);
    }
    session.execute("forgetting slots that are published", CLAIMED, Vec::new()).await?;
    settled::write_revision(session, revision).await?;
    session.commit().await?;
    outcome.revision = Some(revision);
    Ok(outcome)
}

/// How many values a statement is given at most: below SQLite's 32 766 and MySQL's 65 535, and small enough that a
/// statement stays far below MySQL's smallest packet limit.
pub(crate) const MAX_ARGS: usize = 4_000;

/// `?, ?, ?`
pub(crate) fn placeholders(count: usize) -> String {
    let mut text = "?, ".repeat(count);
    text.truncate(text.len().saturating_sub(2));
    text
}
