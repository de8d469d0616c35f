//! A SQLite database that the controller's side publishes to, as the agent's source.

use std::sync::Arc;

use std::path::{Path, PathBuf};

use multinic_core::published::{DesiredInterface, Evidence, Publication, Removal, SubnetRecord};
use multinic_core::{Addresses, ConfigKey, Interface, Mtu, Slot};
use multinic_store::{DatabaseSettings, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tempfile::TempDir;

pub const NODE: &str = "worker-1";

/// What a node is to have, for the test that writes it down.
#[derive(Clone, Debug)]
pub struct Nic {
    pub node: &'static str,
    pub slot: i64,
    pub mac: String,
    pub addresses: Vec<String>,
    pub mtu: i64,
}

/// The NIC of this number: MAC, slot and addresses follow from it.
pub fn nic(number: u8) -> Nic {
    Nic {
        node: NODE,
        slot: i64::from(number),
        mac: format!("fa:16:3e:00:00:{number:02x}"),
        addresses: vec![format!("10.77.{number}.5/24"), format!("fd77:{:x}::5/64", u16::from(number) + 1)],
        mtu: 1450,
    }
}

impl Nic {
    pub fn addresses(mut self, list: &[&str]) -> Self {
        self.addresses = list.iter().map(|text| (*text).to_owned()).collect();
        self
    }

    pub fn mtu(mut self, mtu: i64) -> Self {
        self.mtu = mtu;
        self
    }

    pub fn slot(mut self, slot: i64) -> Self {
        self.slot = slot;
        self
    }

    fn port(&self) -> String {
        let digits: String = self.mac.split(':').collect();
        format!("90000000-0000-4000-8000-{digits}")
    }

    fn desired(&self) -> DesiredInterface {
        let addresses = Addresses::parse(self.addresses.iter().map(String::as_str)).unwrap();
        let cidr = addresses.primary().map_or_else(|| "10.0.0.0/8".parse().unwrap(), |net| net.trunc());
        DesiredInterface {
            node: self.node.parse().unwrap(),
            owner: ConfigKey::new("default", "lab"),
            slot: Slot::new(self.slot).unwrap(),
            project: "9a000000000040008000000000000001".into(),
            interface: Arc::new(Interface {
                mac: self.mac.parse().unwrap(),
                port: self.port().into(),
                network: "4e000000-0000-4000-8000-000000000001".into(),
                subnet: "5b000000-0000-4000-8000-000000000001".into(),
                device: format!("5e000000-0000-4000-8000-{:0>12}", self.node.len()).into(),
                addresses,
                cidr,
                mtu: Mtu::new(self.mtu).unwrap(),
            }),
        }
    }
}

/// What the agent wrote back for one NIC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    pub applied: bool,
    pub name: Option<String>,
    pub error: Option<String>,
}

pub struct Database {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    store: Store,
}

impl Database {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = DatabaseSettings::sqlite(folder.path().join("state.db"));
        let store = runtime.block_on(async {
            let store = Store::open(&settings).await.unwrap();
            store.migrate().await.unwrap();
            store
        });
        Self { folder, runtime, store }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// Publishes exactly these; what goes must be named in `removed`, as the controller has to prove it.
    pub fn publish(&self, wanted: &[Nic], removed: &[Nic]) {
        let interfaces: Vec<_> = wanted.iter().map(Nic::desired).collect();
        let subnets = interfaces.iter().map(|desired| {
            let interface = &desired.interface;
            let record = SubnetRecord {
                name: "lab-net".into(),
                cidr: interface.cidr.to_string(),
                network: interface.network.clone(),
            };
            (interface.subnet.clone(), record)
        });
        let removals = removed.iter().map(|nic| {
            let desired = nic.desired();
            Removal {
                node: desired.node,
                port: desired.interface.port.clone(),
                mac: desired.interface.mac,
                slot: Some(desired.slot),
                evidence: Evidence::PortGone,
            }
        });
        let publication = Publication {
            subnets: subnets.collect(),
            removals: removals.collect(),
            interfaces,
            ..Publication::default()
        };
        self.runtime.block_on(self.store.publish(&publication)).unwrap();
    }

    /// Runs statements that no controller would.
    pub fn sql(&self, statements: &str) {
        self.runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(self.path()).foreign_keys(false);
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    /// What the agent wrote back for this NIC.
    pub fn written(&self, nic: &Nic) -> Written {
        let sql =
            "SELECT netplan_success, observed_name, last_error FROM multi_interface WHERE macaddress = ?";
        self.runtime.block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap();
            let row = sqlx::query(sql).bind(&nic.mac).fetch_optional(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            row.map_or_else(Written::default, |row| Written {
                applied: row.get::<i64, _>(0) == 1,
                name: row.get(1),
                error: row.get(2),
            })
        })
    }

    /// How many tombstones the node has not carried out yet.
    pub fn unreleased(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM multi_removal WHERE released_at IS NULL";
        self.runtime.block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap();
            let row = sqlx::query(sql).fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            row.get(0)
        })
    }

    /// Makes a whole copy, to be put back later.
    pub fn snapshot(&self) -> PathBuf {
        let copy: PathBuf = self.folder.path().join("copy.db");
        self.sql(&format!("VACUUM INTO '{}'", copy.display()));
        copy
    }

    /// Puts a copy back, as an operator restores a backup.
    pub fn restore(&self, copy: &Path) {
        self.sql(&format!(
            "ATTACH '{}' AS old; \
             DELETE FROM multi_interface; INSERT INTO multi_interface SELECT * FROM old.multi_interface; \
             DELETE FROM multi_removal; INSERT INTO multi_removal SELECT * FROM old.multi_removal; \
             DELETE FROM multinic_meta; INSERT INTO multinic_meta SELECT * FROM old.multinic_meta; \
             DETACH old;",
            copy.display()
        ));
    }
}
