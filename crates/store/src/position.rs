//! How new the tables' content is.

use multinic_core::desired::Position;

use crate::error::StoreError;
use crate::session::{RowError, Session};
use crate::store::Store;

impl Store {
    /// The ledger's epoch and revision. One that is not as new as it was before, or of another epoch, is a copy of the past
    /// or another database.
    pub async fn position(&self) -> Result<Position, StoreError> {
        position(&mut self.session().await?).await
    }
}

pub(crate) async fn position(session: &mut Session) -> Result<Position, StoreError> {
    let (mut epoch, mut revision) = (None, None);
    let sql = "SELECT name, value FROM multinic_meta WHERE name IN ('epoch', 'revision')";
    session
        .each_row("reading multinic_meta", sql, Vec::new(), &mut |row| {
            let value = row.text(1)?.unwrap_or_default();
            if row.text(0)? == Some("epoch") {
                epoch = Some(value.to_owned());
                return Ok(());
            }
            revision = Some(value.parse::<u64>().map_err(|error| RowError::Content {
                table: "multinic_meta",
                row: "revision".to_owned(),
                column: "value",
                reason: error.to_string(),
            })?);
            Ok(())
        })
        .await?;
    match (epoch, revision) {
        (Some(epoch), Some(revision)) => Ok(Position { epoch, revision }),
        _ => Err(StoreError::Missing {
            place: session.place().clone(),
            what: "epoch and revision in table multinic_meta".to_owned(),
        }),
    }
}
