//! Servers that change under their names, and names that change over their servers.

use crate::on_both;
use crate::world::*;

on_both! {
    async fn a_server_rebuilt_under_its_old_name_keeps_its_rows(db) {
        let store = db.store().await;
        store.publish(&publication([nic_of("node-a", 1, 0, 1), nic_of("node-a", 1, 1, 2)])).await.unwrap();
        // The second port is not seen this time and stays.
        let outcome = store.publish(&publication([nic_of("node-a", 7, 0, 1)])).await.unwrap();
        assert_eq!((outcome.updated, outcome.removed), (1, 0));
        assert_eq!(db.sql("SELECT attached_node_id, attached_node_name FROM node_table").await, format!("{}\tnode-a", server(7)));
        let ids = db.sql("SELECT attached_node_id FROM multi_interface ORDER BY id").await;
        assert_eq!(ids, format!("{0}\n{0}", server(7)));
        assert_eq!(store.publish(&publication([nic_of("node-a", 7, 0, 1)])).await.unwrap().revision, None);
    }

    async fn a_renamed_server_takes_its_ports_along(db) {
        let store = db.store().await;
        let before = nic_of("node-a", 1, 0, 1);
        store.publish(&publication([before.clone()])).await.unwrap();
        let after = publication([nic_of("node-z", 1, 0, 1)]);
        store.publish(&without(after.clone(), &[&before])).await.unwrap();
        let node = "SELECT attached_node_name FROM node_table WHERE status = 'active' AND deleted_at IS NULL";
        assert_eq!(db.sql(node).await, "node-z");
        assert_eq!(db.sql("SELECT attached_node_id FROM multi_interface").await, server(1));
        assert_eq!(db.read("node-z").await.nics.len(), 1);
        let old = db.read("node-a").await;
        assert!(old.node_known);
        assert_eq!(old.tombstones.len(), 1);
        assert_eq!(store.publish(&after).await.unwrap().revision, None);
    }

    async fn two_servers_may_swap_their_names(db) {
        let store = db.store().await;
        store.publish(&publication([nic_of("node-a", 1, 0, 1), nic_of("node-b", 2, 0, 2)])).await.unwrap();
        let swapped = publication([nic_of("node-b", 1, 0, 1), nic_of("node-a", 2, 0, 2)]);
        store.publish(&swapped).await.unwrap();
        let rows = db.sql("SELECT attached_node_name, attached_node_id FROM node_table ORDER BY 1").await;
        assert_eq!(rows, format!("node-a\t{}\nnode-b\t{}", server(2), server(1)));
        assert_eq!(db.read("node-a").await.nics[0].mac.to_string(), mac(2));
        assert_eq!(store.publish(&swapped).await.unwrap().revision, None);
    }

    async fn a_node_with_ports_of_two_servers_is_published_all_the_same(db) {
        let store = db.store().await;
        let both = publication([nic_of("node-a", 1, 0, 1), nic_of("node-a", 2, 1, 2), nic_of("node-a", 2, 2, 3)]);
        store.publish(&both).await.unwrap();
        assert_eq!(store.publish(&both).await.unwrap().revision, None);
        let devices: Vec<_> = store.published().await.unwrap().interfaces.into_iter().map(|i| i.device().unwrap().clone()).collect();
        assert_eq!(devices, [server(1).into(), server(2).into(), server(2).into()]);
    }

    async fn a_server_under_two_names_is_published_all_the_same(db) {
        let store = db.store().await;
        let both = publication([nic_of("node-a", 1, 0, 1), nic_of("node-b", 1, 0, 2)]);
        store.publish(&both).await.unwrap();
        assert_eq!(store.publish(&both).await.unwrap().revision, None);
        for node in ["node-a", "node-b"] {
            assert_eq!(db.read(node).await.nics.len(), 1);
        }
    }

    async fn names_that_differ_in_case_are_two_nodes(db) {
        let store = db.store().await;
        let both = publication([nic_of("Node-A", 1, 0, 1), nic_of("node-a", 2, 0, 2)]);
        store.publish(&both).await.unwrap();
        assert_eq!(store.publish(&both).await.unwrap().revision, None);
        assert_eq!(db.read("Node-A").await.nics[0].mac.to_string(), mac(1));
        assert_eq!(db.read("node-a").await.nics[0].mac.to_string(), mac(2));
        assert!(db.read("NODE-A").await.nics.is_empty());
        let gone = nic_of("Node-A", 1, 0, 1);
        store.publish(&without(publication([nic_of("node-a", 2, 0, 2)]), &[&gone])).await.unwrap();
        assert_eq!(db.read("Node-A").await.tombstones.len(), 1);
        assert!(db.read("node-a").await.tombstones.is_empty());
    }
}
