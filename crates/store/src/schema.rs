//! The tables, described once for both kinds of database.
//!
//! The first four are the older programs', column for column; what those lack is added to the end of
//! `multi_interface`. The others are new. Nothing is ever dropped or narrowed.

use crate::dialect::Dialect;

/// Rises when a change of the tables cannot be told from their columns.
pub(crate) const SCHEMA_VERSION: u32 = 1;

pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// Keys and references, made with the table: an older table may hold rows that would break them.
    pub(crate) constraints: &'static [&'static str],
    /// Columns by which rows are looked up; each gets an index unless one begins with it.
    pub(crate) lookups: &'static [&'static str],
}

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) rule: Rule,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// The primary key, numbered by the database, never used twice.
    Id,
    Flag,
    Int,
    BigInt,
    /// Text of at most this many characters.
    VarChar(u32),
    Text,
    /// Text that is compared and ordered letter by letter, also where the server's tables ignore case.
    Exact(u32),
    /// Text of up to 16 MiB.
    LongText,
    Time,
    /// A time that the database sets when the row is made; MariaDB and MySQL also when it changes.
    Touched,
}

#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// May be NULL, and is by default.
    Optional,
    /// Must be given. Where the column is added to older rows, they get an empty text or 0.
    Required,
    /// Must not be NULL; the default as SQL.
    Default(&'static str),
    /// May be NULL; the default as SQL.
    OptionalDefault(&'static str),
}

const fn column(name: &'static str, kind: Kind, rule: Rule) -> Column {
    Column { name, kind, rule }
}

use Kind::{BigInt, Exact, Flag, Id, Int, LongText, Text, Time, Touched, VarChar};
use Rule::{Default, Optional, OptionalDefault, Required};

/// Tables that are made and upgraded together.
pub(crate) struct Schema {
    /// In the order in which they are made: references point backwards.
    pub(crate) tables: &'static [Table],
    /// Which of them holds `schema_version`, `epoch` and `revision` as pairs of `name` and `value`.
    pub(crate) meta: &'static str,
}

/// What the controller publishes and agents read.
pub(crate) const SHARED: Schema = Schema { tables: TABLES, meta: "multinic_meta" };

const TABLES: &[Table] = &[
    Table {
        name: "multinic_meta",
        columns: &[column("name", VarChar(64), Required), column("value", VarChar(255), Required)],
        constraints: &["PRIMARY KEY (name)"],
        lookups: &[],
    },
    Table {
        name: "multi_subnet",
        columns: &[
            column("id", Id, Required),
            column("subnet_id", VarChar(36), Required),
            column("subnet_name", VarChar(255), Required),
            column("cidr", VarChar(255), Required),
            column("network_id", VarChar(36), Required),
            column("status", VarChar(50), OptionalDefault("'active'")),
            column("created_at", Time, Optional),
            column("modified_at", Time, Optional),
            column("deleted_at", Time, Optional),
        ],
        constraints: &["UNIQUE (subnet_id)"],
        lookups: &["subnet_id"],
    },
    Table {
        name: "node_table",
        columns: &[
            column("id", Id, Required),
            column("attached_node_id", VarChar(36), Required),
            column("attached_node_name", VarChar(255), Required),
            column("status", VarChar(50), OptionalDefault("'active'")),
            column("created_at", Time, Optional),
            column("modified_at", Time, Optional),
            column("deleted_at", Time, Optional),
        ],
        constraints: &["UNIQUE (attached_node_id)", "UNIQUE (attached_node_name)"],
        lookups: &["attached_node_name"],
    },
    Table {
        name: "multi_removal",
        columns: &[
            column("id", Id, Required),
            column("node_name", VarChar(255), Required),
            column("macaddress", VarChar(17), Required),
            column("port_id", VarChar(36), Required),
            column("slot", Int, Optional),
            column("reason", VarChar(64), Required),
            column("revision", BigInt, Required),
            column("created_at", Time, Optional),
            column("released_at", Time, Optional),
            // Whose it was, since its port may be published elsewhere by now.
            column("cr_namespace", VarChar(255), Optional),
            column("cr_name", VarChar(255), Optional),
            column("device_id", VarChar(36), Optional),
            column("project_id", VarChar(64), Optional),
            // When it had reached every place that it has to reach.
            column("delivered_at", Time, Optional),
        ],
        constraints: &[],
        lookups: &["node_name"],
    },
    // The places that a removal has reached which has not reached all.
    Table {
        name: "multi_removal_place",
        columns: &[column("removal_id", Int, Required), column("digest", VarChar(64), Required)],
        constraints: &["PRIMARY KEY (removal_id, digest)"],
        lookups: &[],
    },
    Table {
        name: "multi_slot",
        columns: &[
            column("node_name", VarChar(255), Required),
            // In lower case.
            column("macaddress", VarChar(17), Required),
            column("slot", Int, Optional),
            column("listed", Flag, Required),
            column("created_at", Time, Optional),
        ],
        constraints: &["PRIMARY KEY (node_name, macaddress)"],
        lookups: &[],
    },
    Table {
        name: "multi_interface",
        columns: &[
            column("id", Id, Required),
            column("port_id", VarChar(36), Required),
            column("subnet_id", VarChar(36), Required),
            column("macaddress", VarChar(17), Required),
            column("attached_node_id", VarChar(36), Optional),
            column("attached_node_name", VarChar(255), Optional),
            column("cr_namespace", VarChar(255), Required),
            column("cr_name", VarChar(255), Required),
            column("status", VarChar(50), OptionalDefault("'active'")),
            column("netplan_success", Flag, Default("0")),
            column("created_at", Time, Optional),
            column("modified_at", Time, Optional),
            column("deleted_at", Time, Optional),
            // Since the second generation of the older programs; wide enough for IPv6 here.
            column("address", VarChar(45), Optional),
            column("cidr", VarChar(49), Optional),
            column("mtu", Int, Optional),
            // This project's: a JSON list of "ip/prefix", the first being the older pair unless that is IPv4.
            column("addresses", Text, Optional),
            column("slot", Int, Optional),
            column("device_id", VarChar(36), Optional),
            column("network_id", VarChar(36), Optional),
            column("project_id", VarChar(64), Optional),
            column("revision", BigInt, Optional),
            // What the node's agent saw.
            column("observed_name", VarChar(15), Optional),
            column("observed_addresses", Text, Optional),
            column("last_error", Text, Optional),
            column("observed_at", Time, Optional),
        ],
        constraints: &[
            "UNIQUE (port_id)",
            "CONSTRAINT unique_cr_interface UNIQUE (cr_namespace, cr_name, port_id)",
            "FOREIGN KEY (subnet_id) REFERENCES multi_subnet (subnet_id)",
            "FOREIGN KEY (attached_node_id) REFERENCES node_table (attached_node_id)",
            "FOREIGN KEY (attached_node_name) REFERENCES node_table (attached_node_name)",
        ],
        lookups: &["attached_node_name", "attached_node_id", "subnet_id", "modified_at"],
    },
    Table {
        name: "cr_state",
        columns: &[
            column("id", Id, Required),
            column("cr_namespace", VarChar(255), Required),
            column("cr_name", VarChar(255), Required),
            column("spec_hash", VarChar(64), Required),
            column("last_updated", Touched, Optional),
        ],
        constraints: &["CONSTRAINT unique_cr UNIQUE (cr_namespace, cr_name)"],
        lookups: &[],
    },
    Table {
        name: "multi_place",
        columns: &[
            column("cr_namespace", VarChar(255), Required),
            column("cr_name", VarChar(255), Required),
            column("digest", VarChar(64), Required),
            column("place", LongText, Required),
            column("choice", VarChar(64), Required),
            // Rises with every record.
            column("number", BigInt, Required),
            // What the configuration says of its NICs beyond their addresses, as JSON.
            column("options", LongText, Optional),
        ],
        constraints: &["PRIMARY KEY (cr_namespace, cr_name, digest)"],
        lookups: &[],
    },
];

/// What the inventory shows.
pub(crate) const INVENTORY: Schema = Schema { tables: INVENTORY_TABLES, meta: "inventory_meta" };

const INVENTORY_TABLES: &[Table] = &[
    Table {
        name: "inventory_meta",
        columns: &[column("name", VarChar(64), Required), column("value", VarChar(255), Required)],
        constraints: &["PRIMARY KEY (name)"],
        lookups: &[],
    },
    Table {
        name: "inventory_record",
        columns: &[
            column("provider_id", Exact(255), Required),
            column("node_name", Exact(255), Required),
            column("instance_id", Exact(64), Required),
            // The JSON that was sent, as it was sent.
            column("config", LongText, Required),
            column("config_hash", VarChar(64), Required),
            column("interface_count", Int, Required),
            // RFC 3339 in UTC with nine digits, so that texts are in the order of the times.
            column("updated_at", VarChar(40), Required),
            // The JSON of what the node's agent saw.
            column("observed", LongText, Optional),
            // The revision that changed the row last. One that is gone stays a while for those who watch.
            column("revision", BigInt, Required),
            column("deleted", Flag, Default("0")),
        ],
        constraints: &["PRIMARY KEY (provider_id, node_name)"],
        lookups: &["revision", "node_name", "instance_id"],
    },
];

impl Table {
    /// `collation`: that of the tables which are there already, because texts of two collations cannot be compared.
    pub(crate) fn create(&self, dialect: Dialect, collation: &str) -> String {
        let columns = self.columns.iter().map(|column| column.definition(dialect, Place::NewTable));
        let parts: Vec<String> = columns.chain(self.constraints.iter().map(ToString::to_string)).collect();
        let tail = match dialect {
            Dialect::MySql => format!(" ENGINE=InnoDB DEFAULT COLLATE={collation}"),
            Dialect::Sqlite => String::new(),
        };
        format!("CREATE TABLE IF NOT EXISTS {} ({}){tail}", self.name, parts.join(", "))
    }
}

/// Where a column is defined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    NewTable,
    /// Beside rows that are there already.
    OldTable,
}

impl Column {
    pub(crate) fn definition(&self, dialect: Dialect, place: Place) -> String {
        let Self { name, kind, rule } = self;
        let kind_text = match (kind, dialect) {
            (Id, Dialect::MySql) => return format!("{name} INT NOT NULL AUTO_INCREMENT PRIMARY KEY"),
            (Id, Dialect::Sqlite) => return format!("{name} INTEGER PRIMARY KEY AUTOINCREMENT"),
            (Touched, Dialect::MySql) => {
                return format!(
                    "{name} TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
                );
            }
            // SQLite adds no column whose default is computed.
            (Touched, Dialect::Sqlite) if place == Place::OldTable => {
                return format!("{name} TIMESTAMP NULL");
            }
            (Touched, Dialect::Sqlite) => return format!("{name} TIMESTAMP DEFAULT CURRENT_TIMESTAMP"),
            (Flag, _) => "TINYINT(1)".to_owned(),
            (Int, _) => "INT".to_owned(),
            (BigInt, _) => "BIGINT".to_owned(),
            (VarChar(length), _) => format!("VARCHAR({length})"),
            // Whatever the table's own charset is: an error's text may hold any letter.
            (Text, Dialect::MySql) => "TEXT CHARACTER SET utf8mb4".to_owned(),
            (Text | LongText, Dialect::Sqlite) => "TEXT".to_owned(),
            (LongText, Dialect::MySql) => "MEDIUMTEXT CHARACTER SET utf8mb4".to_owned(),
            (Exact(length), Dialect::MySql) => {
                format!("VARCHAR({length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            }
            (Exact(length), Dialect::Sqlite) => format!("VARCHAR({length})"),
            (Time, _) => "TIMESTAMP".to_owned(),
        };
        let rule = match rule {
            Optional => "NULL".to_owned(),
            OptionalDefault(value) => format!("NULL DEFAULT {value}"),
            Default(value) => format!("NOT NULL DEFAULT {value}"),
            Required if place == Place::NewTable => "NOT NULL".to_owned(),
            Required => {
                let filler = if matches!(kind, VarChar(_) | Exact(_)) { "''" } else { "0" };
                format!("NOT NULL DEFAULT {filler}")
            }
        };
        format!("{name} {kind_text} {rule}")
    }

    /// The change of an older, narrower column. Only columns that no key or reference uses are ever widened.
    pub(crate) fn widening(&self, found_characters: Option<i64>) -> Option<String> {
        match (self.kind, self.rule, found_characters) {
            (VarChar(wanted), Optional, Some(found)) if found < i64::from(wanted) => {
                Some(format!("MODIFY COLUMN {} VARCHAR({wanted}) NULL", self.name))
            }
            _ => None,
        }
    }
}
