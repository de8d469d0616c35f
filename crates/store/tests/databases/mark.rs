use crate::on_both;
use crate::world::*;

on_both! {
    async fn the_mark_is_another_one_after_whatever_is_written(db) {
        let store = db.store().await;
        let one = publication([nic("node-a", 0, 1), nic("node-a", 1, 2), nic("node-b", 0, 3)]);
        let empty = store.mark().await.unwrap();
        store.publish(&one).await.unwrap();
        let mut before = store.mark().await.unwrap();
        assert_ne!(before, empty, "what the store itself publishes");
        store.publish(&one).await.unwrap();
        store.published().await.unwrap();
        assert_eq!(store.mark().await.unwrap(), before, "nothing was written");
        let edits = [
            "UPDATE multi_interface SET mtu = 1400 WHERE slot = 0",
            "UPDATE multi_interface SET observed_name = 'multinic7' WHERE slot = 1",
            "UPDATE multi_interface SET addresses = NULL",
            "UPDATE multi_subnet SET cidr = '10.0.0.0/9'",
            "UPDATE node_table SET status = 'gone'",
            "UPDATE multinic_meta SET value = '77' WHERE name = 'revision'",
            "INSERT INTO multi_removal (node_name, macaddress, port_id, reason, revision) VALUES ('a', 'b', 'c', 'd', 1)",
            "INSERT INTO cr_state (cr_namespace, cr_name, spec_hash) VALUES ('a', 'b', 'c')",
            "DELETE FROM multi_interface WHERE slot = 1",
        ];
        for edit in edits {
            db.sql(edit).await;
            let after = store.mark().await.unwrap();
            assert_ne!(after, before, "{edit}");
            before = after;
        }
    }
}
