//! One row of `multi_interface` as an agent understands it.

use multinic_core::desired::{DesiredNic, EntryId, InvalidEntry, Reported, Tombstone};
use multinic_core::{Addresses, InterfaceOptions, MacAddr, Mtu, PortId, Slot};

use super::layout::Layout;
use crate::published::parse_list;
use crate::session::{Row, RowError};

/// What a row means.
pub(super) enum Entry {
    /// A NIC to have.
    Nic(DesiredNic),
    /// Not usable.
    Invalid(InvalidEntry),
    /// An older program's way to take a NIC away.
    Tombstone(Tombstone),
    /// A row of a node whose name the database, not this project, holds to be the same; or a tombstone without a MAC.
    None,
}

/// Reads the columns of [`Layout::select`].
pub(super) fn read(row: &Row<'_>, node: &str, layout: &Layout) -> Result<Entry, RowError> {
    if row.text(1)? != Some(node) {
        return Ok(Entry::None);
    }
    let entry = EntryId(row.int(0)?.unwrap_or_default());
    let mac_text = row.text(2)?.unwrap_or_default();
    let mac = mac_text.trim().parse::<MacAddr>();
    if row.int(3)? == Some(1) {
        return Ok(mac.map_or(Entry::None, |mac| Entry::Tombstone(Tombstone { entry: None, mac })));
    }
    let revision = row.int(10)?.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    let optional = |column| row.text(column).map(|text| text.filter(|text| !text.is_empty()));
    let reported = Reported {
        applied: row.int(4)?.is_some_and(|flag| flag != 0),
        // A name that cannot be one of ours was not reported by us.
        name: optional(12)?.and_then(|name| name.parse().ok()),
        error: optional(13)?.map(str::to_owned),
    };
    let content = || -> Result<(MacAddr, Option<Slot>, Addresses, Mtu), String> {
        let mac = mac.clone().map_err(|error| format!("macaddress: {error}"))?;
        if !layout.has_content() {
            return Err("address, mtu: the table has no such columns; start this project's controller, which adds and \
                        fills them"
                .to_owned());
        }
        let read = |error: sqlx::Error| format!("the row cannot be read: {error}");
        let list = row.text(5).map_err(read)?.map(parse_list).transpose();
        let list = list.map_err(|error| format!("addresses: {error}"))?;
        let address = optional(6).map_err(read)?;
        let cidr = row.text(7).map_err(read)?;
        // A subnet has a CIDR whether the interface has an address there or not.
        let addresses =
            Addresses::reconcile(list, address, address.and(cidr)).map_err(|error| error.to_string())?;
        let mtu = row.int(8).map_err(read)?.ok_or("mtu: there is none")?;
        let mtu = Mtu::new(mtu).map_err(|error| error.to_string())?;
        mtu.carries(&addresses).map_err(|error| error.to_string())?;
        let slot = row.int(9).map_err(read)?.map(Slot::new).transpose();
        Ok((mac, slot.map_err(|error| format!("slot: {error}"))?, addresses, mtu))
    };
    Ok(match content() {
        Ok((mac, slot, addresses, mtu)) => Entry::Nic(DesiredNic {
            entry,
            revision,
            mac,
            slot,
            port: optional(11)?.map(PortId::from),
            addresses,
            mtu,
            // The tables have no columns for them: the node's own settings say what is to be.
            options: InterfaceOptions::default(),
            reported,
        }),
        Err(reason) => Entry::Invalid(InvalidEntry { entry, revision, mac: mac.ok(), reason, reported }),
    })
}
