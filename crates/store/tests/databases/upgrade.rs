//! Databases of the older programs: upgraded without loss, and read by agents before that.

use std::sync::Arc;

use multinic_core::published::Publication;
use multinic_core::{ConfigKey, MacAddr, Slot};
use multinic_store::{Store, StoreError};

use crate::database::{Database, TABLES};
use crate::on_both;
use crate::world::*;

fn dialect(db: &Database, sql: &str) -> String {
    if db.is_sqlite() {
        sql.replace("INT AUTO_INCREMENT PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
            .replace(" ON UPDATE CURRENT_TIMESTAMP", "")
            .replace(" COLLATE utf8mb4_general_ci", "")
    } else {
        sql.to_owned()
    }
}

/// The tables of the first operator at its last version, with rows of two nodes.
async fn first_generation(db: &Database) {
    let times = "status VARCHAR(50) DEFAULT 'active', created_at TIMESTAMP NULL, modified_at TIMESTAMP NULL, \
                 deleted_at TIMESTAMP NULL";
    let tables = format!(
        "CREATE TABLE multi_subnet (id INT AUTO_INCREMENT PRIMARY KEY, subnet_id VARCHAR(36) NOT NULL UNIQUE, \
         subnet_name VARCHAR(255) NOT NULL, cidr VARCHAR(255) NOT NULL, network_id VARCHAR(36) NOT NULL, {times}); \
         CREATE TABLE node_table (id INT AUTO_INCREMENT PRIMARY KEY, attached_node_id VARCHAR(36) NOT NULL UNIQUE, \
         attached_node_name VARCHAR(255) NOT NULL UNIQUE, {times}); \
         CREATE TABLE multi_interface (id INT AUTO_INCREMENT PRIMARY KEY, port_id VARCHAR(36) NOT NULL UNIQUE, \
         subnet_id VARCHAR(36) NOT NULL, macaddress VARCHAR(17) NOT NULL, attached_node_id VARCHAR(36), \
         attached_node_name VARCHAR(255) NULL, cr_namespace VARCHAR(255) NOT NULL, cr_name VARCHAR(255) NOT NULL, \
         netplan_success TINYINT(1) NOT NULL DEFAULT 0, {times}, \
         UNIQUE (cr_namespace, cr_name, port_id), \
         FOREIGN KEY (subnet_id) REFERENCES multi_subnet (subnet_id), \
         FOREIGN KEY (attached_node_id) REFERENCES node_table (attached_node_id), \
         FOREIGN KEY (attached_node_name) REFERENCES node_table (attached_node_name)); \
         CREATE TABLE cr_state (id INT AUTO_INCREMENT PRIMARY KEY, cr_namespace VARCHAR(255) NOT NULL, \
         cr_name VARCHAR(255) NOT NULL, spec_hash VARCHAR(64) NOT NULL, \
         last_updated TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
         UNIQUE (cr_namespace, cr_name))"
    );
    db.sql(&dialect(db, &tables)).await;
    let (s1, s2) = (server(1), server(2));
    db.sql(&format!(
        "INSERT INTO multi_subnet (subnet_id, subnet_name, cidr, network_id, created_at) VALUES \
         ('{SUBNET}', 'lab-net', '10.0.0.0/8', '4e000000-0000-4000-8000-000000000001', '2024-01-01 00:00:00')"
    ))
    .await;
    db.sql(&format!(
        "INSERT INTO node_table (attached_node_id, attached_node_name) VALUES ('{s1}', 'node-a'), ('{s2}', 'node-b')"
    ))
    .await;
    for (number, server, node, success) in
        [(1, &s1, "node-a", 1), (2, &s1, "node-a", 0), (3, &s2, "node-b", 1)]
    {
        let (port, mac) = (port(number), mac(number).to_uppercase());
        db.sql(&format!(
            "INSERT INTO multi_interface (port_id, subnet_id, macaddress, attached_node_id, attached_node_name, \
             cr_namespace, cr_name, netplan_success, created_at) VALUES ('{port}', '{SUBNET}', '{mac}', '{server}', \
             '{node}', 'default', 'lab', {success}, '2024-01-01 00:00:00')"
        ))
        .await;
    }
    db.sql(
        "INSERT INTO cr_state (cr_namespace, cr_name, spec_hash, last_updated) \
            VALUES ('default', 'lab', 'abc', '2024-01-01 00:00:00')",
    )
    .await;
}

/// The tables of the second generation: no references, narrow addresses, a default MTU.
async fn second_generation(db: &Database) {
    let tables = "CREATE TABLE multi_subnet (id INT AUTO_INCREMENT PRIMARY KEY, subnet_id VARCHAR(36) NOT NULL, \
         subnet_name VARCHAR(255) NOT NULL, cidr VARCHAR(255) NOT NULL, network_id VARCHAR(36) NOT NULL, \
         status VARCHAR(50) DEFAULT 'active', created_at TIMESTAMP NULL, modified_at TIMESTAMP NULL, \
         deleted_at TIMESTAMP NULL) COLLATE utf8mb4_general_ci; \
         CREATE TABLE multi_interface (id INT AUTO_INCREMENT PRIMARY KEY, port_id VARCHAR(36) NOT NULL, \
         subnet_id VARCHAR(36) NOT NULL, macaddress VARCHAR(17) NOT NULL, attached_node_name VARCHAR(255), \
         netplan_success TINYINT(1) DEFAULT 0, address VARCHAR(15), cidr VARCHAR(18), mtu INT DEFAULT 1500, \
         created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, \
         modified_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, deleted_at TIMESTAMP NULL) \
         COLLATE utf8mb4_general_ci";
    db.sql(&dialect(db, tables)).await;
    db.sql(&format!(
        "INSERT INTO multi_subnet (subnet_id, subnet_name, cidr, network_id) VALUES \
         ('{SUBNET}', 'lab-net', '10.0.0.0/8', '4e000000-0000-4000-8000-000000000001')"
    ))
    .await;
    // The prefix length is in either table.
    for (number, cidr, mtu) in [(1, "'10.0.0.0/8'", "1450"), (2, "NULL", "1450"), (3, "'10.0.0.0/8'", "NULL")]
    {
        let (port, mac) = (port(number), mac(number));
        db.sql(&format!(
            "INSERT INTO multi_interface (port_id, subnet_id, macaddress, attached_node_name, netplan_success, address, \
             cidr, mtu) VALUES ('{port}', '{SUBNET}', '{mac}', 'node-a', 1, '10.1.0.{number}', {cidr}, {mtu})"
        ))
        .await;
    }
}

const OLD_ROWS: [&str; 4] = [
    "SELECT id, subnet_id, subnet_name, cidr, network_id, status, created_at FROM multi_subnet ORDER BY id",
    "SELECT id, attached_node_id, attached_node_name, status FROM node_table ORDER BY id",
    "SELECT id, port_id, subnet_id, macaddress, attached_node_id, attached_node_name, cr_namespace, cr_name, status, \
     netplan_success, created_at, modified_at, deleted_at FROM multi_interface ORDER BY id",
    "SELECT id, cr_namespace, cr_name, spec_hash, last_updated FROM cr_state ORDER BY id",
];

on_both! {
    async fn a_database_of_the_first_generation_is_upgraded_with_nothing_lost(db) {
        first_generation(db).await;
        let mut before = Vec::new();
        for sql in OLD_ROWS {
            before.push(db.sql(sql).await);
        }
        let store = db.store().await;
        for (sql, before) in OLD_ROWS.iter().zip(before) {
            assert!(!before.is_empty());
            assert_eq!(db.sql(sql).await, before);
        }
        let published = store.published().await.unwrap();
        assert_eq!(published.interfaces.len(), 3);
        let first = &published.interfaces[0];
        assert_eq!((first.node.as_str(), &first.owner, first.mac().to_string()), ("node-a", &owner(), mac(1)));
        assert_eq!((first.slot, first.verified, &first.project, first.interface()), (None, None, &None, None));
        assert_eq!((first.device(), first.subnet().as_str()), (Some(&server(1).into()), SUBNET));
        assert_eq!(published.spec_hashes, [(owner(), "abc".to_owned())].into());
    }

    async fn a_database_of_the_first_generation_is_published_to(db) {
        first_generation(db).await;
        let store = db.store().await;
        let wanted = publication([nic_of("node-a", 1, 0, 1), nic_of("node-a", 1, 1, 2)]);
        let outcome = store.publish(&wanted).await.unwrap();
        assert_eq!((outcome.inserted, outcome.updated, outcome.removed), (0, 2, 0));
        assert_eq!(store.publish(&wanted).await.unwrap().revision, None);
        let state = db.read("node-a").await;
        assert_eq!((state.nics.len(), state.invalid.len()), (2, 0));
        // A rebuilt server, with the older tables' references between them.
        store.publish(&publication([nic_of("node-a", 8, 0, 1), nic_of("node-a", 8, 1, 2)])).await.unwrap();
        assert_eq!(store.published().await.unwrap().interfaces[2].device(), Some(&server(2).into()));
    }

    async fn a_database_of_the_second_generation_is_upgraded_and_holds_ipv6(db) {
        second_generation(db).await;
        let store = db.store().await;
        let published = store.published().await.unwrap();
        assert_eq!(published.interfaces.len(), 3);
        assert_eq!(published.interfaces[0].owner, ConfigKey::new("", ""));
        let mut long = nic("node-a", 3, 4);
        Arc::make_mut(&mut long.interface).addresses = addresses(&["fd00:1111:2222:3333:4444:5555:6666:7777/128"]);
        Arc::make_mut(&mut long.interface).cidr = "fd00:1111:2222:3333:4444:5555:6666:7777/128".parse().unwrap();
        store.publish(&publication([long.clone()])).await.unwrap();
        let published = store.published().await.unwrap();
        assert_eq!(published.interfaces[3].interface(), Some(&long.interface));
    }

    async fn rows_that_an_older_agent_applied_are_not_applied_again_after_an_upgrade(db) {
        second_generation(db).await;
        let store = db.store().await;
        let outcome = store.publish(&publication((1..=3).map(|n| nic("node-a", i64::from(n), n)))).await.unwrap();
        assert_eq!(outcome.updated, 3);
        // The third had no MTU: what it is to be is new.
        assert_eq!(db.sql("SELECT netplan_success FROM multi_interface ORDER BY id").await, "1\n1\n0");
        let state = db.read("node-a").await;
        assert_eq!(state.nics.iter().map(|nic| nic.slot.unwrap().number()).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(state.nics.iter().all(|nic| nic.revision == 1));
        assert!(state.nics[0].reported.applied);
    }

    async fn an_upgraded_database_is_not_upgraded_again(db) {
        first_generation(db).await;
        db.store().await;
        let epoch = db.read("node-a").await.position.unwrap().epoch;
        assert!(epoch.len() > 20, "{epoch}");
        for table in TABLES {
            db.forbid_writes(table).await;
        }
        db.store().await.migrate().await.unwrap();
        assert_eq!(db.read("node-a").await.position.unwrap().epoch, epoch);
    }

    async fn an_agent_reads_the_second_generation_as_it_is(db) {
        second_generation(db).await;
        let state = db.read("node-a").await;
        assert!(state.node_known);
        assert_eq!(state.position, None);
        assert_eq!((state.nics.len(), state.invalid.len()), (2, 1));
        for (nic, number) in state.nics.iter().zip(1..) {
            assert_eq!(nic.mac.to_string(), mac(number));
            assert_eq!(nic.addresses, addresses(&[&format!("10.1.0.{number}/8")]));
            assert_eq!((nic.mtu.bytes(), nic.slot, nic.revision, nic.reported.applied), (1450, None, 0, true));
        }
        assert!(state.invalid[0].reason.starts_with("mtu: "), "{}", state.invalid[0].reason);
        db.agent("node-a").report(&[failed(state.nics[0].entry, 0, "PortBusy: no"), applied(state.nics[1].entry, 0, 1)], &[]).await.unwrap();
        assert_eq!(db.sql("SELECT netplan_success FROM multi_interface ORDER BY id").await, "0\n1\n1");
        assert!(!db.read("node-b").await.node_known);
    }

    async fn an_agent_on_the_first_generation_says_what_is_missing(db) {
        first_generation(db).await;
        db.sql(&format!("UPDATE multi_interface SET deleted_at = '2024-02-02 00:00:00' WHERE port_id = '{}'", port(2))).await;
        let state = db.read("node-a").await;
        assert!(state.node_known && state.nics.is_empty());
        let invalid = &state.invalid[0];
        assert!(invalid.reason.contains("controller") && invalid.reason.contains("mtu"), "{}", invalid.reason);
        assert_eq!(invalid.mac, Some(mac(1).parse::<MacAddr>().unwrap()));
        assert_eq!(state.tombstones[0].mac.to_string(), mac(2));
        assert_eq!(state.tombstones[0].entry, None);
        db.agent("node-a").report(&[failed(invalid.entry, 0, "Invalid: no address")], &[]).await.unwrap();
        assert_eq!(db.sql("SELECT netplan_success FROM multi_interface ORDER BY id").await, "0\n0\n1");
    }

    async fn a_row_that_an_older_program_deleted_is_a_tombstone_until_its_port_is_wanted(db) {
        first_generation(db).await;
        db.sql("UPDATE multi_interface SET deleted_at = '2024-02-02 00:00:00', status = 'deleted' WHERE id = 1").await;
        let store = db.store().await;
        assert_eq!(store.published().await.unwrap().interfaces.len(), 2);
        store.publish(&publication([nic_of("node-a", 1, 0, 2)])).await.unwrap();
        let state = db.read("node-a").await;
        assert_eq!((state.nics.len(), state.tombstones.len()), (1, 1));
        assert_eq!((state.tombstones[0].entry, state.tombstones[0].mac.to_string()), (None, mac(1)));
        // Wanted on another node: this one is still told to take it away.
        let outcome = store.publish(&publication([nic_of("node-b", 2, 0, 1)])).await.unwrap();
        assert_eq!(outcome.revived, 1);
        let tombstones = db.read("node-a").await.tombstones;
        assert_eq!(tombstones[0].mac.to_string(), mac(1));
        assert!(tombstones[0].entry.is_some());
        assert_eq!(store.purge(std::time::Duration::ZERO, false).await.unwrap(), 1);
    }

    async fn a_node_name_that_no_node_can_have_does_not_stop_the_controller(db) {
        first_generation(db).await;
        db.sql("UPDATE multi_interface SET attached_node_name = NULL, attached_node_id = NULL WHERE id = 3").await;
        db.sql("UPDATE node_table SET attached_node_name = 'Web Server 1' WHERE id = 2").await;
        db.sql("UPDATE multi_interface SET attached_node_name = 'Web Server 1' WHERE id = 3").await;
        let store = db.store().await;
        assert_eq!(store.published().await.unwrap().interfaces.len(), 2);
        store.publish(&publication([nic_of("web-1", 2, 0, 3)])).await.unwrap();
        assert_eq!(db.read("web-1").await.nics.len(), 1);
        // No agent can ask for what left such a node, and the memory of it can be read.
        assert_eq!(store.published().await.unwrap().interfaces.len(), 3);
        assert_eq!(db.sql("SELECT COUNT(*) FROM multi_removal").await, "0");
    }

    async fn a_row_of_an_older_program_that_is_no_nic_does_not_stop_the_controller(db) {
        first_generation(db).await;
        db.sql("UPDATE multi_interface SET macaddress = 'unknown' WHERE id = 3").await;
        let store = db.store().await;
        assert_eq!(store.published().await.unwrap().interfaces.len(), 2);
        // Once its port is seen it is one, and there is nothing to take away of what it was.
        store.publish(&publication([nic_of("node-b", 2, 0, 3)])).await.unwrap();
        assert_eq!(store.published().await.unwrap().interfaces.len(), 3);
        assert_eq!(db.sql("SELECT COUNT(*) FROM multi_removal").await, "0");
        assert_eq!(db.read("node-b").await.nics.len(), 1);
    }

    async fn a_row_whose_server_is_called_otherwise_now_does_not_take_the_placeholder_for_its_server(db) {
        first_generation(db).await;
        let store = db.store().await;
        // Another port of node-b's server, under another name.
        store.publish(&publication([nic_of("node-c", 2, 0, 9)])).await.unwrap();
        let published = store.published().await.unwrap();
        let row = published.interfaces.iter().find(|row| row.node.as_str() == "node-b").unwrap();
        assert_eq!(row.device(), None);
    }

    async fn two_rows_of_one_port_become_one(db) {
        second_generation(db).await;
        let (port, mac) = (port(1), mac(1));
        db.sql(&format!("INSERT INTO multi_interface (port_id, subnet_id, macaddress, attached_node_name) \
            VALUES ('{port}', '{SUBNET}', '{mac}', 'node-b')")).await;
        let store = db.store().await;
        let outcome = store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        assert_eq!((outcome.updated, outcome.removed), (1, 1));
        assert_eq!(db.read("node-b").await.tombstones.len(), 1);
        assert_eq!(store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap().revision, None);
    }

    async fn missing_tables_are_an_error_and_not_emptiness(db) {
        db.sql("CREATE TABLE something_else (id INT)").await;
        let error = db.agent("node-a").read().await.unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("multi_interface") && error.retry(), "{error}");
        let store = db.store().await;
        assert_eq!(store.publish(&Publication::default()).await.unwrap().revision, None);
        let state = db.read("node-a").await;
        assert!(!state.node_known && state.nics.is_empty());
        assert_eq!(state.position.unwrap().revision, 0);
        db.sql("DROP TABLE multi_interface").await;
        assert!(db.agent("node-a").read().await.is_err());
        assert!(store.published().await.is_err());
    }

    async fn tables_with_another_kind_of_key_are_refused(db) {
        db.sql("CREATE TABLE multi_interface (id VARCHAR(36) PRIMARY KEY, macaddress VARCHAR(17))").await;
        let error = Store::open(&db.settings()).await.unwrap_err();
        assert!(matches!(error, StoreError::ForeignTable { table: "multi_interface", .. }), "{error}");
        assert!(!error.retry());
    }

    async fn memory_that_cannot_be_read_is_an_error_that_names_the_row(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1), nic("node-a", 1, 2)])).await.unwrap();
        for (column, bad) in [
            ("macaddress", "'fa:16:3e'"),
            ("slot", "64"),
            ("observed_name", "'eth0'"),
            ("addresses", "'[\"10.0.0.1\"]'"),
            ("mtu", "0"),
        ] {
            let good = db.sql(&format!("SELECT {column} FROM multi_interface WHERE id = 2")).await;
            db.sql(&format!("UPDATE multi_interface SET {column} = {bad} WHERE id = 2")).await;
            let error = store.published().await.unwrap_err();
            assert!(error.to_string().contains(&format!("multi_interface, row 2, column {column}")), "{error}");
            let good = if good == "NULL" { good } else { format!("'{good}'") };
            db.sql(&format!("UPDATE multi_interface SET {column} = {good} WHERE id = 2")).await;
        }
        assert_eq!(store.published().await.unwrap().interfaces[1].slot, Some(Slot::new(1).unwrap()));
    }
}
