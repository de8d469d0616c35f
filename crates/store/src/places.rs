//! Where each configuration was delivered: what tells, also after a restart, that it moved and left something behind.

use multinic_core::ConfigKey;

use crate::error::StoreError;
use crate::removed::place_digest;
use crate::session::Arg;
use crate::store::Store;

/// A place that a configuration was delivered to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceRecord {
    /// The configuration.
    pub owner: ConfigKey,
    /// The place, in the words of whoever delivers.
    pub place: String,
    /// What the configuration itself said of places when it was last delivered there, as a hash of at most 64 letters.
    pub choice: String,
    /// Which NIC gets which options, in the words of whoever delivers; none in records of older versions.
    pub options: Option<String>,
    /// Rises with every call that records something.
    pub number: u64,
}

impl Store {
    /// Every place that a configuration was delivered to and that is not forgotten.
    pub async fn places(&self) -> Result<Vec<PlaceRecord>, StoreError> {
        let mut places = Vec::new();
        let sql = "SELECT cr_namespace, cr_name, place, choice, options, number FROM multi_place \
                   ORDER BY cr_namespace, cr_name, digest";
        let mut session = self.session().await?;
        session
            .each_row("reading multi_place", sql, Vec::new(), &mut |row| {
                let text = |column| row.text(column).map(|text| text.unwrap_or_default().to_owned());
                let owner = ConfigKey::new(text(0)?, text(1)?);
                let number = row.int(5)?.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
                let options = row.text(4)?.map(str::to_owned);
                places.push(PlaceRecord { owner, place: text(2)?, choice: text(3)?, options, number });
                Ok(())
            })
            .await?;
        Ok(places)
    }

    /// Records places before something is delivered there. Returns their number; that in the records says nothing.
    pub async fn record_places(&self, places: &[PlaceRecord]) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        session.begin_write().await?;
        let mut number = 1;
        let latest = format!("SELECT MAX(number) FROM multi_place{}", session.dialect().for_update());
        session
            .each_row("reading multi_place", &latest, Vec::new(), &mut |row| {
                number = row.int(0)?.unwrap_or_default() + 1;
                Ok(())
            })
            .await?;
        let instead =
            session.dialect().on_duplicate("cr_namespace, cr_name, digest", &["choice", "options", "number"]);
        let sql = format!(
            "INSERT INTO multi_place (cr_namespace, cr_name, digest, place, choice, options, number) \
             VALUES (?, ?, ?, ?, ?, ?, ?) {instead}"
        );
        for PlaceRecord { owner, place, choice, options, number: _ } in places {
            let mut args = key(owner, place);
            args.extend([
                Arg::text(place),
                Arg::text(choice),
                Arg::optional(options.as_ref()),
                Arg::Int(number),
            ]);
            session.execute("recording a place", &sql, args).await?;
        }
        session.commit().await?;
        Ok(u64::try_from(number).unwrap_or_default())
    }

    /// Forgets a place at which a configuration has nothing any more.
    pub async fn forget_place(&self, owner: &ConfigKey, place: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM multi_place WHERE cr_namespace = ? AND cr_name = ? AND digest = ?";
        self.session().await?.execute("forgetting a place", sql, key(owner, place)).await.map(drop)
    }
}

fn key(owner: &ConfigKey, place: &str) -> Vec<Arg> {
    vec![Arg::text(&owner.namespace), Arg::text(&owner.name), Arg::Text(place_digest(place))]
}
