//! The inventory's tables on real databases: every test runs on SQLite and on a MariaDB server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing loudly; the lints' own exemption does not reach a macro's body"
)]

#[allow(dead_code, reason = "shared with the tests of the shared tables")]
#[path = "databases/database.rs"]
mod database;
#[allow(dead_code, reason = "shared with the tests of the shared tables")]
#[path = "databases/world.rs"]
mod world;

use std::time::Duration;

use database::Database;
use multinic_store::inventory::{
    Entry, Filter, InventoryStore, Observed, ObservedInterface, Record, RecordKey,
};
use serde_json::{Value, json};
use world::*;

async fn open(db: &Database) -> InventoryStore {
    match db {
        Database::Sqlite { folder } => InventoryStore::open(&folder.path().join("state.db")).await.unwrap(),
        Database::MariaDb { .. } => InventoryStore::beside(&db.store().await).await.unwrap(),
    }
}

fn payload(node: &str, device: u32, count: u32) -> Value {
    let nics = (0..count).map(|at| json!({"id": at, "macAddress": mac(device * 100 + at), "mtu": 1450}));
    json!({"nodeName": node, "instanceId": server(device), "interfaces": nics.collect::<Vec<_>>()})
}

fn entry(provider: &str, node: &str, device: u32, count: u32) -> Entry {
    Entry::new(provider, &payload(node, device, count)).unwrap()
}

fn key(provider: &str, node: &str) -> RecordKey {
    RecordKey { provider_id: provider.into(), node_name: node.into() }
}

async fn all(store: &InventoryStore, filter: &Filter) -> Vec<Record> {
    store.list(filter, None, 1000).await.unwrap().records
}

fn names(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| format!("{}/{}", r.key.provider_id, r.key.node_name)).collect()
}

fn seen(state: &str, reason: &str) -> Observed {
    Observed {
        state: state.into(),
        observed_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        interfaces: vec![ObservedInterface {
            name: "multinic0".into(),
            mac_address: mac(1),
            addresses: vec!["10.1.0.1/8".into()],
            mtu: Some(1450),
            status: state.into(),
            reason: reason.into(),
        }],
    }
}

on_both! {
    async fn a_record_has_what_was_sent_its_hash_and_its_time(db) {
        let store = open(db).await;
        let sent = payload("node-a", 1, 2);
        store.apply(&[Entry::new("p", &sent).unwrap()]).await.unwrap();
        let record = all(&store, &Filter::default()).await.remove(0);
        assert_eq!(record.config, serde_json::to_string(&sent).unwrap());
        assert_eq!(record.last_config_hash, multinic_store::inventory::node_hash(&record.config));
        assert!(record.updated_at.ends_with('Z') && record.updated_at.len() == 30, "{}", record.updated_at);
        assert_eq!((record.instance_id, record.observed), (server(1), None));
    }

    async fn what_is_as_it_should_be_is_not_written(db) {
        let store = open(db).await;
        let entries = [entry("p", "node-a", 1, 1), entry("p", "node-b", 2, 1)];
        assert_eq!(store.apply(&entries).await.unwrap().records, 2);
        let before = (store.position().await.unwrap(), all(&store, &Filter::default()).await);
        db.forbid_writes("inventory_record").await;
        db.forbid_writes("inventory_meta").await;
        let written = store.apply(&entries).await.unwrap();
        assert_eq!((written.records, written.revision), (0, None));
        assert_eq!((store.position().await.unwrap(), all(&store, &Filter::default()).await), before);
    }

    async fn only_what_changed_is_written_with_a_revision_of_its_own(db) {
        let store = open(db).await;
        store.apply(&[entry("p", "node-a", 1, 1), entry("p", "node-b", 2, 1)]).await.unwrap();
        let revision = store.position().await.unwrap().revision;
        assert_eq!(revision, 2);
        store.apply(&[entry("p", "node-a", 1, 1), entry("p", "node-b", 2, 2)]).await.unwrap();
        let changes = store.changes(revision, 10).await.unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].revision, changes[0].record.key.clone()), (3, key("p", "node-b")));
        assert_eq!(store.changes(0, 10).await.unwrap().len(), 2);
        assert_eq!(store.changes(0, 1).await.unwrap().len(), 1);
    }

    async fn records_are_in_the_order_of_provider_and_node_and_filters_all_apply(db) {
        let store = open(db).await;
        let entries = [
            entry("p2", "node-a", 3, 1), entry("p1", "node-b", 2, 1), entry("p1", "Node-b", 4, 1), entry("p1", "node-a", 1, 1),
        ];
        store.apply(&entries).await.unwrap();
        assert_eq!(names(&all(&store, &Filter::default()).await), ["p1/Node-b", "p1/node-a", "p1/node-b", "p2/node-a"]);
        let by = |provider: Option<&str>, node: Option<&str>, instance: Option<&str>| Filter {
            provider_id: provider.map(Into::into), node_name: node.map(Into::into), instance_id: instance.map(Into::into),
        };
        assert_eq!(names(&all(&store, &by(Some("p1"), None, None)).await).len(), 3);
        assert_eq!(names(&all(&store, &by(None, Some("node-a"), None)).await), ["p1/node-a", "p2/node-a"]);
        assert_eq!(names(&all(&store, &by(None, None, Some(&server(2)))).await), ["p1/node-b"]);
        assert_eq!(names(&all(&store, &by(Some("p2"), Some("node-a"), Some(&server(3)))).await), ["p2/node-a"]);
        assert!(all(&store, &by(Some("p2"), Some("node-a"), Some(&server(1)))).await.is_empty());
    }

    async fn pages_hold_every_record_once(db) {
        let store = open(db).await;
        let mut entries = Vec::new();
        for provider in ["p1", "p2", "p3"] {
            entries.extend((0..70).map(|n| entry(provider, &format!("node-{n:03}"), n + 1, 1)));
        }
        store.apply(&entries).await.unwrap();
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.list(&Filter::default(), after.as_ref(), 40).await.unwrap();
            assert!(page.records.len() <= 40);
            found.extend(names(&page.records));
            pages += 1;
            after = page.next;
            if after.is_none() { break; }
        }
        assert_eq!((pages, found.len()), (6, 210));
        assert!(found.is_sorted());
        found.dedup();
        assert_eq!(found.len(), 210);
    }

    async fn providers_are_summed_up(db) {
        let store = open(db).await;
        store.apply(&[entry("p2", "node-c", 3, 0), entry("p1", "node-b", 2, 2), entry("p1", "node-a", 1, 1)]).await.unwrap();
        store.remove(&[key("p2", "nobody")]).await.unwrap();
        let providers = store.providers().await.unwrap();
        let found: Vec<_> = providers.iter().map(|p| (p.provider_id.as_str(), p.node_count)).collect();
        assert_eq!(found, [("p1", 2), ("p2", 1)]);
        let nodes: Vec<_> = providers[0].nodes.iter().map(|n| (n.node_name.as_str(), n.interface_count)).collect();
        assert_eq!(nodes, [("node-a", 1), ("node-b", 2)]);
        assert_eq!(providers[0].updated_at, providers[0].nodes[0].updated_at);
        assert_eq!(providers[1].nodes[0].instance_id, server(3));
    }

    async fn a_node_that_is_gone_is_told_as_gone_and_may_come_back(db) {
        let store = open(db).await;
        store.apply(&[entry("p", "node-a", 1, 1), entry("p", "node-b", 2, 1), entry("q", "node-b", 3, 1)]).await.unwrap();
        store.observe("p", "node-b", &seen("Configured", "")).await.unwrap();
        let revision = store.position().await.unwrap().revision;
        let keep = ["node-a".to_owned()].into();
        assert_eq!(store.prune("p", &keep).await.unwrap().records, 1);
        assert_eq!(store.prune("p", &keep).await.unwrap().revision, None);
        assert_eq!(names(&all(&store, &Filter::default()).await), ["p/node-a", "q/node-b"]);
        let changes = store.changes(revision, 10).await.unwrap();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].gone && changes[0].record.key == key("p", "node-b"));
        store.apply(&[entry("p", "node-b", 2, 1)]).await.unwrap();
        let changes = store.changes(revision, 10).await.unwrap();
        assert!(changes.len() == 1 && !changes[0].gone && changes[0].record.observed.is_none());
    }

    async fn removals_are_forgotten_after_a_while_and_that_is_known(db) {
        let store = open(db).await.keep_tombstones(Duration::ZERO);
        store.apply(&[entry("p", "node-a", 1, 1), entry("p", "node-b", 2, 1)]).await.unwrap();
        store.remove(&[key("p", "node-a")]).await.unwrap();
        assert_eq!(store.position().await.unwrap().compacted, 0);
        store.remove(&[key("p", "node-b")]).await.unwrap();
        let position = store.position().await.unwrap();
        assert_eq!((position.revision, position.compacted), (4, 3));
        assert_eq!(store.changes(0, 10).await.unwrap().len(), 1);
    }

    async fn what_was_observed_stays_with_the_node_and_its_server(db) {
        let store = open(db).await;
        store.apply(&[entry("p", "node-a", 1, 1)]).await.unwrap();
        let first = seen("Configured", "");
        assert_eq!(store.observe("p", "node-a", &first).await.unwrap().records, 1);
        let later = Observed { observed_at: Some("2026-02-02T00:00:00Z".parse().unwrap()), ..first.clone() };
        assert_eq!(store.observe("p", "node-a", &later).await.unwrap().records, 0);
        assert_eq!(store.observe("p", "nobody", &first).await.unwrap().records, 0);
        store.apply(&[entry("p", "node-a", 1, 2)]).await.unwrap();
        let record = all(&store, &Filter::default()).await.remove(0);
        let observed: Observed = serde_json::from_str(record.observed.as_deref().unwrap()).unwrap();
        assert_eq!(observed, first);
        store.apply(&[entry("p", "node-a", 9, 2)]).await.unwrap();
        assert_eq!(all(&store, &Filter::default()).await[0].observed, None);
    }

    async fn what_agents_report_into_the_shared_tables_is_observed(db) {
        let shared = db.store().await;
        let store = match db {
            Database::Sqlite { folder } => InventoryStore::open(&folder.path().join("inventory.db")).await.unwrap(),
            Database::MariaDb { .. } => InventoryStore::beside(&shared).await.unwrap(),
        };
        let wanted = publication([nic_of("node-a", 1, 0, 1), nic_of("node-a", 1, 1, 2), nic_of("node-b", 2, 0, 3)]);
        shared.publish(&wanted).await.unwrap();
        store.apply(&[entry("p", "node-a", 1, 2), entry("p", "node-b", 2, 1), entry("q", "node-a", 7, 1)]).await.unwrap();

        let (nodes, since) = shared.observations(None, &[]).await.unwrap();
        assert_eq!(nodes.iter().map(|n| n.observed.state.as_str()).collect::<Vec<_>>(), ["Pending", "Pending"]);
        let nics = db.read("node-a").await.nics;
        db.agent("node-a").report(&[applied(nics[0].entry, 1, 0), failed(nics[1].entry, 1, "no such NIC")], &[]).await.unwrap();

        let (nodes, since) = shared.observations(Some(&since), &[]).await.unwrap();
        store.observe_nodes(&nodes).await.unwrap();
        let observed = |records: &[Record], at: usize| -> Observed {
            serde_json::from_str(records[at].observed.as_deref().unwrap()).unwrap()
        };
        let records = all(&store, &Filter::default()).await;
        let a = observed(&records, 0);
        assert_eq!(a.state, "Failed");
        let age = jiff::Timestamp::now().duration_since(a.observed_at.unwrap()).as_secs();
        assert!((-5..300).contains(&age), "{age}");
        let facts: Vec<_> = a.interfaces.iter().map(|i| (i.status.as_str(), i.name.as_str(), i.mtu, i.reason.as_str())).collect();
        assert_eq!(facts, [("Configured", "multinic0", Some(1450), ""), ("Failed", "", None, "no such NIC")]);
        assert_eq!(a.interfaces[0].addresses, ["10.1.0.1/8"]);
        assert_eq!(observed(&records, 1).state, "Pending");
        // The same name on another server is another node.
        assert_eq!(records[2].observed, None);
        assert_eq!(store.observe_nodes(&nodes).await.unwrap().records, 0);

        shared.publish(&without(publication([nic_of("node-a", 1, 0, 1)]), &[&nic_of("node-a", 1, 1, 2)])).await.unwrap();
        let (nodes, _) = shared.observations(Some(&since), &[]).await.unwrap();
        store.observe_nodes(&nodes).await.unwrap();
        let a = observed(&all(&store, &Filter::default()).await, 0);
        assert_eq!(a.interfaces.iter().map(|i| i.status.as_str()).collect::<Vec<_>>(), ["Configured", "Removing"]);
        assert_eq!(a.state, "InProgress");

        let gone = db.read("node-a").await.tombstones[0].entry.unwrap();
        db.agent("node-a").report(&[], &[gone]).await.unwrap();
        let everything = without(publication([]), &[&nic_of("node-a", 1, 0, 1)]);
        shared.publish(&everything).await.unwrap();
        let gone = db.read("node-a").await.tombstones[0].entry.unwrap();
        db.agent("node-a").report(&[], &[gone]).await.unwrap();
        // A node that had everything taken away has nothing; of one that is not here, nothing is known.
        let (nodes, _) = shared.observations(Some("9999-01-01 00:00:00"), &["node-a".into(), "nobody".into()]).await.unwrap();
        store.observe_nodes(&nodes).await.unwrap();
        let a = observed(&all(&store, &Filter::default()).await, 0);
        assert_eq!((nodes.len(), a.state.as_str(), a.interfaces.len()), (1, "Configured", 0));
    }

    async fn writers_at_the_same_time_lose_nothing(db) {
        let (one, two) = (open(db).await, open(db).await);
        let work = |store: InventoryStore, name: &'static str| async move {
            for n in 0..20 {
                store.apply(&[entry("p", &format!("{name}-{n}"), n + 1, 1)]).await.unwrap();
            }
        };
        tokio::join!(work(one.clone(), "one"), work(two, "two"));
        assert_eq!(all(&one, &Filter::default()).await.len(), 40);
        let revisions: Vec<u64> = one.changes(0, 100).await.unwrap().iter().map(|c| c.revision).collect();
        assert_eq!(revisions, (1..=40).collect::<Vec<u64>>());
    }

    async fn an_old_inventory_is_taken_in_once_and_kept(db) {
        let store = open(db).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.json");
        let config = r#"{"nodeName":"node-a","instanceId":"i-1","interfaces":[{"name":"multinic0","macAddress":"fa:16:3e:00:00:01","extra":1.50}]}"#;
        let text = format!(r#"{{ "records": [
            {{"providerId":"p","nodeName":"node-a","instanceId":"i-1","config": {config},"lastConfigHash":"abc","updatedAt":"2025-12-31T23:59:59.5Z"}},
            {{"providerId":"p","nodeName":"node-b","instanceId":"i-2","config":{{"nodeName":"node-b","instanceId":"i-2","interfaces":null}},"lastConfigHash":"","updatedAt":"2025-12-31T23:59:59.123456789+09:00"}}
        ]}}"#);
        std::fs::write(&path, &text).unwrap();
        store.apply(&[entry("p", "node-b", 2, 1)]).await.unwrap();
        let imported = store.import(&path).await.unwrap().unwrap();
        assert_eq!((imported.found, imported.written), (2, 1));
        assert_eq!(imported.kept, folder.path().join("inventory.json.imported"));
        assert!(!path.exists());
        assert_eq!(std::fs::read_to_string(&imported.kept).unwrap(), text);
        let records = all(&store, &Filter::default()).await;
        assert_eq!((records[0].config.as_str(), records[0].last_config_hash.as_str()), (config, "abc"));
        assert_eq!(records[0].updated_at, "2025-12-31T23:59:59.500000000Z");
        assert_eq!(records[1].instance_id, server(2));
        assert_eq!(store.import(&path).await.unwrap(), None);
        // A second old file does not displace the first.
        std::fs::write(&path, r#"{"records":null}"#).unwrap();
        let imported = store.import(&path).await.unwrap().unwrap();
        assert_eq!(imported.kept, folder.path().join("inventory.json.imported.1"));
    }

    async fn a_broken_old_inventory_is_named_and_left_alone(db) {
        let store = open(db).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.json");
        for (text, part) in [
            (r#"{"records":[{"providerId":"p""#, "is broken"),
            ("", "is broken"),
            (r#"{"records":[{"providerId":"p","nodeName":"n","config":{"nodeName":"n"}},{"providerId":"","nodeName":"n","config":{"nodeName":"n"}}]}"#, "record 2: providerId"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = store.import(&path).await.unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(path.to_str().unwrap()), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert!(all(&store, &Filter::default()).await.is_empty());
        }
    }
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.db");
    let store = InventoryStore::open(&path).await.unwrap();
    store.apply(&[entry("p", "node-a", 1, 1)]).await.unwrap();
    for file in ["inventory.db", "inventory.db-wal"] {
        let mode = folder.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
}
