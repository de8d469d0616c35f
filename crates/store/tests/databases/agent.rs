use std::sync::Arc;

use multinic_core::desired::{NicReport, Outcome};
use multinic_core::{InterfaceName, Mtu};

use crate::on_both;
use crate::world::*;

on_both! {
    async fn an_unknown_node_is_not_an_empty_one(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        let state = db.read("node-x").await;
        assert!(!state.node_known && state.nics.is_empty() && state.tombstones.is_empty());
        db.sql(&format!("INSERT INTO node_table (attached_node_id, attached_node_name) VALUES ('{}', 'node-x')", server(9))).await;
        assert!(db.read("node-x").await.node_known);
    }

    async fn a_bad_row_is_named_and_the_others_are_unaffected(db) {
        let store = db.store().await;
        store.publish(&publication((1..=3).map(|n| nic("node-a", i64::from(n), n)))).await.unwrap();
        let columns = ["macaddress", "addresses", "address", "cidr", "mtu", "slot"];
        for (assignment, field) in [
            ("macaddress = 'fa:16:3e:00:00'", "macaddress: "),
            ("macaddress = ''", "macaddress: "),
            ("addresses = 'x'", "addresses: "),
            ("addresses = '[\"10.9.9.9/8\"]'", "addresses name 10.9.9.9/8"),
            ("addresses = NULL, cidr = '192.0.2.0/24'", "address 10.1.0.2 is outside cidr"),
            ("address = '10.1.0'", "address: "),
            ("cidr = 'x'", "cidr: "),
            ("mtu = NULL", "mtu: "),
            ("mtu = 0", "mtu: "),
            ("mtu = 1279, addresses = '[\"10.1.0.2/8\",\"fd00::1/64\"]'", "mtu: "),
            ("slot = 64", "slot: "),
        ] {
            let before = db.sql(&format!("SELECT {} FROM multi_interface WHERE id = 2", columns.join(", "))).await;
            db.sql(&format!("UPDATE multi_interface SET {assignment} WHERE id = 2")).await;
            let state = db.read("node-a").await;
            assert_eq!((state.nics.len(), state.invalid.len(), state.tombstones.len()), (2, 1, 0), "{assignment}");
            let invalid = &state.invalid[0];
            assert!(invalid.reason.starts_with(field), "{assignment}: {}", invalid.reason);
            assert_eq!((invalid.entry.0, invalid.revision), (2, 1));
            assert_eq!(invalid.mac.is_none(), assignment.starts_with("macaddress"));
            let restore = columns.iter().zip(before.split('\t')).map(|(column, value)| format!("{column} = '{value}'"));
            db.sql(&format!("UPDATE multi_interface SET {} WHERE id = 2", restore.collect::<Vec<_>>().join(", "))).await;
        }
        assert_eq!(db.read("node-a").await.nics.len(), 3);
    }

    async fn one_mac_in_two_rows_of_a_node_is_neither(db) {
        let store = db.store().await;
        let mut double = nic("node-a", 1, 2);
        Arc::make_mut(&mut double.interface).mac = mac(1).parse().unwrap();
        store.publish(&publication([nic("node-a", 0, 1), double, nic("node-a", 2, 3)])).await.unwrap();
        let state = db.read("node-a").await;
        assert_eq!((state.nics.len(), state.invalid.len()), (1, 2));
        assert!(state.invalid[0].reason.contains("row 2"), "{}", state.invalid[0].reason);
        assert_eq!(state.invalid[0].mac.unwrap().to_string(), mac(1));
    }

    async fn a_report_is_read_back(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1), nic("node-a", 1, 2), nic("node-a", 2, 3)])).await.unwrap();
        let entries: Vec<_> = db.read("node-a").await.nics.iter().map(|nic| nic.entry).collect();
        let conflict = NicReport {
            entry: entries[2],
            revision: 1,
            outcome: Outcome::Failed { name: Some("multinic9".parse().unwrap()), error: "NameConflict: é".into() },
        };
        let reports = [applied(entries[0], 1, 0), failed(entries[1], 1, "Busy: no"), conflict];
        db.agent("node-a").report(&reports, &[]).await.unwrap();
        let nics = db.read("node-a").await.nics;
        let name = |text: &str| Some(text.parse::<InterfaceName>().unwrap());
        assert_eq!((nics[0].reported.applied, nics[0].reported.name), (true, name("multinic0")));
        assert_eq!(nics[0].reported.error, None);
        assert_eq!((nics[1].reported.applied, nics[1].reported.name), (false, None));
        assert_eq!(nics[1].reported.error.as_deref(), Some("Busy: no"));
        assert_eq!((nics[2].reported.applied, nics[2].reported.name), (false, name("multinic9")));
        assert_eq!(nics[2].reported.error.as_deref(), Some("NameConflict: é"));
        let row = "SELECT netplan_success, observed_addresses, observed_at IS NULL FROM multi_interface WHERE id = 1";
        assert_eq!(db.sql(row).await, "1\t[\"10.1.0.1/8\"]\t0");
        let verified = store.published().await.unwrap().interfaces[2].verified;
        assert_eq!(verified.map(multinic_core::Slot::number), Some(9));
    }

    async fn a_report_about_replaced_content_is_dropped(db) {
        let store = db.store().await;
        let mut nic = nic("node-a", 0, 1);
        store.publish(&publication([nic.clone()])).await.unwrap();
        let entry = db.read("node-a").await.nics[0].entry;
        Arc::make_mut(&mut nic.interface).mtu = Mtu::new(1300).unwrap();
        store.publish(&publication([nic.clone()])).await.unwrap();
        db.agent("node-a").report(&[applied(entry, 1, 0)], &[]).await.unwrap();
        assert!(!db.read("node-a").await.nics[0].reported.applied);
        db.agent("node-b").report(&[applied(entry, 2, 0)], &[]).await.unwrap();
        assert!(!db.read("node-a").await.nics[0].reported.applied, "another node's report");
        db.agent("node-a").report(&[applied(entry, 2, 0)], &[]).await.unwrap();
        assert!(db.read("node-a").await.nics[0].reported.applied);
        store.publish(&without(publication([]), &[&nic])).await.unwrap();
        db.agent("node-a").report(&[applied(entry, 2, 0), applied(entry, 3, 0)], &[]).await.unwrap();
        assert_eq!(db.sql("SELECT netplan_success FROM multi_interface").await, "0");
    }

    async fn an_older_agents_success_counts(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        db.sql("UPDATE multi_interface SET netplan_success = 1, modified_at = CURRENT_TIMESTAMP WHERE id = 1").await;
        let reported = db.read("node-a").await.nics.remove(0).reported;
        assert_eq!((reported.applied, reported.name, reported.error), (true, None, None));
    }

    async fn a_very_long_error_is_cut_and_not_refused(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        let entry = db.read("node-a").await.nics[0].entry;
        db.agent("node-a").report(&[failed(entry, 1, &format!("x{}", "é".repeat(50_000)))], &[]).await.unwrap();
        assert_eq!(db.read("node-a").await.nics[0].reported.error.as_ref().unwrap().len(), 65_535);
    }

    async fn a_restored_database_shows_in_the_position(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        let before = db.read("node-a").await.position.unwrap();
        db.sql("DROP TABLE multinic_meta").await;
        let unknown = db.read("node-a").await;
        assert_eq!((unknown.position, unknown.nics.len()), (None, 1));
        store.migrate().await.unwrap();
        let after = db.read("node-a").await.position.unwrap();
        assert_ne!(before.epoch, after.epoch);
    }
}
