//! The subnets' table: for people, and for older agents, which take the prefix length from it.

use std::collections::{BTreeMap, HashMap};

use multinic_core::SubnetId;
use multinic_core::published::{Publication, SubnetRecord};

use crate::error::StoreError;
use crate::session::{Arg, Session};

pub(super) struct Subnets {
    changed: Vec<(SubnetId, SubnetRecord)>,
    new: Vec<(SubnetId, SubnetRecord)>,
}

pub(super) async fn plan(session: &mut Session, publication: &Publication) -> Result<Subnets, StoreError> {
    struct Found {
        name: String,
        cidr: String,
        network: String,
        active: bool,
    }
    let mut found: HashMap<String, Found> = HashMap::new();
    let sql = "SELECT subnet_id, subnet_name, cidr, network_id, \
               CASE WHEN deleted_at IS NULL AND status = 'active' THEN 1 ELSE 0 END FROM multi_subnet";
    session
        .each_row("reading multi_subnet", sql, Vec::new(), &mut |row| {
            let text = |column| row.text(column).map(|text| text.unwrap_or_default().to_owned());
            let active = row.int(4)? == Some(1);
            found.insert(text(0)?, Found { name: text(1)?, cidr: text(2)?, network: text(3)?, active });
            Ok(())
        })
        .await?;
    let mut wanted: BTreeMap<&SubnetId, SubnetRecord> =
        publication.subnets.iter().map(|(id, record)| (id, record.clone())).collect();
    // Interfaces refer to their subnet: one that nobody described gets what the interface itself knows of it.
    for desired in &publication.interfaces {
        let interface = &desired.interface;
        if !found.contains_key(interface.subnet.as_str()) {
            wanted.entry(&interface.subnet).or_insert_with(|| SubnetRecord {
                name: interface.subnet.to_string(),
                cidr: interface.cidr.to_string(),
                network: interface.network.clone(),
            });
        }
    }
    let mut subnets = Subnets { changed: Vec::new(), new: Vec::new() };
    for (id, record) in wanted {
        match found.get(id.as_str()) {
            None => subnets.new.push((id.clone(), record)),
            Some(Found { name, cidr, network, active }) => {
                let same = *active
                    && *name == record.name
                    && *cidr == record.cidr
                    && network == record.network.as_str();
                if !same {
                    subnets.changed.push((id.clone(), record));
                }
            }
        }
    }
    Ok(subnets)
}

impl Subnets {
    pub(super) async fn write(self, session: &mut Session) -> Result<u64, StoreError> {
        let mut writes = 0;
        let changed = (
            self.changed,
            "UPDATE multi_subnet SET subnet_name = ?, cidr = ?, network_id = ?, status = 'active', \
             deleted_at = NULL, modified_at = CURRENT_TIMESTAMP WHERE subnet_id = ?",
        );
        let new = (
            self.new,
            "INSERT INTO multi_subnet (subnet_name, cidr, network_id, subnet_id, status, created_at, modified_at) \
             VALUES (?, ?, ?, ?, 'active', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
        );
        for (subnets, sql) in [changed, new] {
            for (id, SubnetRecord { name, cidr, network }) in subnets {
                let args = vec![Arg::Text(name), Arg::Text(cidr), Arg::text(&network), Arg::text(&id)];
                writes += session.execute("writing multi_subnet", sql, args).await?;
            }
        }
        Ok(writes)
    }
}
