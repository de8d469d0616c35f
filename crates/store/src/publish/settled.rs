//! The revision of the whole, and the spec hashes of what is settled.

use std::collections::HashMap;

use multinic_core::published::Publication;

use crate::error::StoreError;
use crate::session::{Arg, RowError, Session};

/// Locks the revision and returns the one after it.
pub(super) async fn next_revision(session: &mut Session) -> Result<u64, StoreError> {
    let sql =
        format!("SELECT value FROM multinic_meta WHERE name = 'revision'{}", session.dialect().for_update());
    let mut revision = None;
    session
        .each_row("locking the revision", &sql, Vec::new(), &mut |row| {
            let text = row.text(0)?.unwrap_or_default();
            let number = text.parse::<u64>().map_err(|error| RowError::Content {
                table: "multinic_meta",
                row: "revision".to_owned(),
                column: "value",
                reason: error.to_string(),
            })?;
            revision = Some(number.saturating_add(1));
            Ok(())
        })
        .await?;
    revision.ok_or_else(|| StoreError::Missing {
        place: session.place().clone(),
        what: "row \"revision\" in table multinic_meta".to_owned(),
    })
}

pub(super) async fn write_revision(session: &mut Session, revision: u64) -> Result<(), StoreError> {
    let sql = "UPDATE multinic_meta SET value = ? WHERE name = 'revision'";
    session.execute("writing the revision", sql, vec![Arg::text(&revision)]).await.map(drop)
}

/// What is to change in `cr_state`: statements with their values.
pub(super) struct Settled(Vec<(&'static str, Vec<Arg>)>);

pub(super) async fn plan(session: &mut Session, publication: &Publication) -> Result<Settled, StoreError> {
    if publication.settled.is_empty() && publication.forgotten.is_empty() {
        return Ok(Settled(Vec::new()));
    }
    let mut hashes: HashMap<(String, String), String> = HashMap::new();
    let sql = "SELECT cr_namespace, cr_name, spec_hash FROM cr_state";
    session
        .each_row("reading cr_state", sql, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(|text| text.unwrap_or_default().to_owned());
            hashes.insert((text(0)?, text(1)?), text(2)?);
            Ok(())
        })
        .await?;
    let key = |config: &multinic_core::ConfigKey| (config.namespace.to_string(), config.name.to_string());
    let mut statements = Vec::new();
    for (config, hash) in &publication.settled {
        let args = vec![Arg::text(hash), Arg::text(&config.namespace), Arg::text(&config.name)];
        match hashes.get(&key(config)) {
            Some(known) if known == hash => (),
            Some(_) => statements.push((
                "UPDATE cr_state SET spec_hash = ?, last_updated = CURRENT_TIMESTAMP \
                 WHERE cr_namespace = ? AND cr_name = ?",
                args,
            )),
            None => statements.push((
                "INSERT INTO cr_state (spec_hash, cr_namespace, cr_name, last_updated) \
                 VALUES (?, ?, ?, CURRENT_TIMESTAMP)",
                args,
            )),
        }
    }
    for config in publication.forgotten.iter().filter(|config| hashes.contains_key(&key(config))) {
        statements.push((
            "DELETE FROM cr_state WHERE cr_namespace = ? AND cr_name = ?",
            vec![Arg::text(&config.namespace), Arg::text(&config.name)],
        ));
    }
    Ok(Settled(statements))
}

impl Settled {
    pub(super) async fn write(self, session: &mut Session) -> Result<u64, StoreError> {
        let mut writes = 0;
        for (sql, args) in self.0 {
            writes += session.execute("writing cr_state", sql, args).await?;
        }
        Ok(writes)
    }
}
