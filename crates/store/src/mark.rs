//! Whether the tables may hold something else than before, told without reading their rows.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::schema::SHARED;
use crate::session::{Connector, Pool, Session};
use crate::settings::DatabaseSettings;

/// What the tables held at one moment, as a few numbers. While they are the same, nobody wrote anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(Vec<i64>);

/// What tells of it.
#[derive(Clone, Default)]
pub(crate) struct Marker {
    listener: Arc<Mutex<Listener>>,
}

/// A connection that writes nothing: SQLite tells each connection of what others commit.
#[derive(Default)]
struct Listener {
    session: Option<Session>,
    /// Another connection counts otherwise.
    number: i64,
}

impl Marker {
    pub(crate) async fn mark(
        &self,
        connector: &Connector,
        pool: &Pool,
        settings: &DatabaseSettings,
    ) -> Result<Mark, StoreError> {
        match pool {
            // The server adds up the rows by itself.
            Pool::MySql(_) => {
                let mut session = Session::from_pool(pool, settings).await?;
                let tables: Vec<&str> = SHARED.tables.iter().map(|table| table.name).collect();
                let sql = format!("CHECKSUM TABLE {}", tables.join(", "));
                numbers(&mut session, &sql, 1).await.map(Mark)
            }
            Pool::Sqlite(_) => {
                let mut listener = self.listener.lock().await;
                let mut session = match listener.session.take() {
                    Some(session) => session,
                    None => {
                        listener.number += 1;
                        Session::connect(connector, settings).await?
                    }
                };
                let mut mark = numbers(&mut session, "PRAGMA data_version", 0).await?;
                mark.push(listener.number);
                // One that failed is not kept.
                listener.session = Some(session);
                Ok(Mark(mark))
            }
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(session) = self.listener.lock().await.session.take() {
            session.close().await;
        }
    }
}

async fn numbers(session: &mut Session, sql: &str, column: usize) -> Result<Vec<i64>, StoreError> {
    let mut numbers = Vec::new();
    session
        .each_row("telling whether something changed", sql, Vec::new(), &mut |row| {
            numbers.extend(row.int(column)?);
            Ok(())
        })
        .await?;
    Ok(numbers)
}
