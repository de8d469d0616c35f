//! Which of the tables and columns a database has.

use std::collections::HashSet;

use crate::error::StoreError;
use crate::migrate::find;
use crate::session::Session;

/// Columns of `multi_interface` that an agent reads or writes, and that older tables may lack.
const OPTIONAL: [&str; 14] = [
    "addresses",
    "address",
    "cidr",
    "mtu",
    "slot",
    "revision",
    "port_id",
    "deleted_at",
    "netplan_success",
    "observed_name",
    "observed_addresses",
    "last_error",
    "observed_at",
    "modified_at",
];

/// The tables and columns that an agent can use.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Columns of `multi_interface`; all of them where none.
    interface: Option<HashSet<String>>,
    subnet_cidr: bool,
    pub(super) nodes: bool,
    pub(super) removals: bool,
    pub(super) meta: bool,
}

impl Layout {
    /// A database that the controller created or upgraded. It is tried first, so that nothing is looked up at the polls
    /// of a fleet that is up to date.
    pub(super) fn current() -> Self {
        Self { interface: None, subnet_cidr: true, nodes: true, removals: true, meta: true }
    }

    /// Looks at the database.
    pub(super) async fn find(session: &mut Session) -> Result<Self, StoreError> {
        let interface = find(session, "multi_interface").await?.columns;
        for column in ["id", "macaddress", "attached_node_name"] {
            if !interface.contains_key(column) {
                let what = if interface.is_empty() {
                    "table multi_interface".to_owned()
                } else {
                    format!("column {column} in table multi_interface")
                };
                return Err(StoreError::Missing { place: session.place().clone(), what });
            }
        }
        let subnet = find(session, "multi_subnet").await?.columns;
        let joined = interface.contains_key("subnet_id") && subnet.contains_key("subnet_id");
        Ok(Self {
            interface: Some(interface.into_keys().collect()),
            subnet_cidr: joined && subnet.contains_key("cidr"),
            nodes: find(session, "node_table").await?.columns.contains_key("attached_node_name"),
            removals: find(session, "multi_removal").await?.columns.contains_key("released_at"),
            meta: !find(session, "multinic_meta").await?.columns.is_empty(),
        })
    }

    /// What this project's controller would add to the tables.
    pub(super) fn missing(&self) -> Vec<String> {
        let tables = [
            ("multi_subnet.cidr", self.subnet_cidr),
            ("node_table", self.nodes),
            ("multi_removal", self.removals),
            ("multinic_meta", self.meta),
        ];
        let columns = OPTIONAL.iter().filter(|column| !self.has(column));
        let columns = columns.map(|column| format!("multi_interface.{column}"));
        let tables = tables.into_iter().filter(|(_, there)| !there).map(|(table, _)| table.to_owned());
        columns.chain(tables).collect()
    }

    /// Whether `multi_interface` has this column.
    pub(super) fn has(&self, column: &str) -> bool {
        self.interface.as_ref().is_none_or(|columns| columns.contains(column))
    }

    /// Whether an MTU and an address can be told at all.
    pub(super) fn has_content(&self) -> bool {
        self.has("mtu") && (self.has("address") || self.has("addresses"))
    }

    /// A column of `multi_interface`, or NULL.
    fn or_null(&self, column: &str) -> String {
        if self.has(column) { format!("mi.{column}") } else { "NULL".to_owned() }
    }

    /// The columns that [`super::entry`] reads, in its order.
    pub(super) fn select(&self) -> String {
        let own = if self.has("cidr") { "NULLIF(mi.cidr, '')" } else { "NULL" };
        let cidr = if self.subnet_cidr { format!("COALESCE({own}, ms.cidr)") } else { own.to_owned() };
        let deleted =
            if self.has("deleted_at") { "CASE WHEN mi.deleted_at IS NULL THEN 0 ELSE 1 END" } else { "0" };
        let join =
            if self.subnet_cidr { " LEFT JOIN multi_subnet ms ON ms.subnet_id = mi.subnet_id" } else { "" };
        let columns = [
            "mi.id".to_owned(),
            "mi.attached_node_name".to_owned(),
            "mi.macaddress".to_owned(),
            deleted.to_owned(),
            self.or_null("netplan_success"),
            self.or_null("addresses"),
            self.or_null("address"),
            cidr,
            self.or_null("mtu"),
            self.or_null("slot"),
            self.or_null("revision"),
            self.or_null("port_id"),
            self.or_null("observed_name"),
            self.or_null("last_error"),
        ];
        format!(
            "SELECT {} FROM multi_interface mi{join} WHERE mi.attached_node_name = ? ORDER BY mi.id",
            columns.join(", ")
        )
    }
}
