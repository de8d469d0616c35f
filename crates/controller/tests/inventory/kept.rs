//! Where the inventory is kept, and what it takes over.

use multinic_controller::inventory::reports::Reports;
use multinic_controller::inventory::{Inventory, InventoryError};
use multinic_core::desired::{NicReport, Outcome};
use multinic_store::inventory::{NodeObservation, Observed};
use multinic_store::{AgentSource, DatabaseSettings, Store};
use multinic_testbed::publication::one_nic;

use crate::bench::*;

const OLD: &str = r#"{
  "records": [
    {"providerId": "p", "nodeName": "node-a", "instanceId": "i-1",
     "config": {"nodeName": "node-a", "instanceId": "i-1", "interfaces": [{"macAddress": "fa:16:3e:00:00:01"}]},
     "lastConfigHash": "abc", "updatedAt": "2025-12-31T23:59:59.123456789Z"}
  ]
}"#;

#[tokio::test]
async fn it_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/inventory.db");
    let args = settings(&["--inventory-db-path", path.to_str().unwrap()]);
    let tag = async || {
        let served = Served::new(Inventory::open(&args, None).await.unwrap()).await;
        served.inventory.apply(&[entry("p", "node-a", "i-1")]).await.unwrap();
        let tag = served.get("/v1/inventory/node-configs").await.headers()["etag"].clone();
        served.stop().await;
        tag
    };
    assert_eq!(tag().await, tag().await);
}

#[tokio::test]
async fn an_older_programs_file_is_taken_in_whatever_names_it() {
    for name in ["inventory.json", "inventory.db"] {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("inventory.json");
        std::fs::write(&old, OLD).unwrap();
        let args = settings(&["--inventory-db-path", folder.path().join(name).to_str().unwrap()]);
        for _ in 0..2 {
            let served = Served::new(Inventory::open(&args, None).await.unwrap()).await;
            let found = served.json("/v1/inventory/node-configs").await;
            assert_eq!(
                (found[0]["lastConfigHash"].as_str(), found.as_array().unwrap().len()),
                (Some("abc"), 1)
            );
            assert_eq!(found[0]["updatedAt"], "2025-12-31T23:59:59.123456789Z");
            served.stop().await;
        }
        assert!(!old.exists() && folder.path().join("inventory.db").exists());
        assert_eq!(std::fs::read_to_string(folder.path().join("inventory.json.imported")).unwrap(), OLD);
    }
}

#[tokio::test]
async fn a_broken_older_file_stops_the_start_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("inventory.json");
    let broken = OLD.trim_end_matches('}');
    std::fs::write(&old, broken).unwrap();
    let args = settings(&["--inventory-db-path", old.to_str().unwrap()]);
    let error = Inventory::open(&args, None).await.unwrap_err();
    assert!(matches!(error, InventoryError::Import(_)), "{error}");
    assert!(error.to_string().contains(old.to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read_to_string(&old).unwrap(), broken);
    std::fs::write(&old, OLD).unwrap();
    let inventory = Inventory::open(&args, None).await.unwrap();
    assert_eq!(inventory.store().unwrap().position().await.unwrap().revision, 1);
}

#[tokio::test]
async fn what_agents_report_is_shown_and_a_file_of_its_own_is_used_beside_a_controllers() {
    let folder = tempfile::tempdir().unwrap();
    let database = Store::open(&settings_of(&folder)).await.unwrap();
    let path = folder.path().join("inventory.db");
    let args = settings(&["--inventory-db-path", path.to_str().unwrap()]);
    let inventory = Inventory::open(&args, Some(&database)).await.unwrap();
    assert!(path.exists());
    let mac = "fa:16:3e:00:00:01".parse().unwrap();
    let wanted = one_nic("node-a", mac, "10.0.0.10/24".parse().unwrap()).unwrap();
    let server = wanted.interfaces[0].interface.device.to_string();
    database.publish(&wanted).await.unwrap();
    let served = Served::new(inventory).await;
    served.inventory.apply(&[entry("p", "node-a", &server), entry("p", "node-b", "i-2")]).await.unwrap();
    let state = async || {
        let found = served.json("/v1/inventory/node-configs").await;
        assert!(found[1].get("observed").is_none(), "nobody saw node-b");
        found[0]["observed"]["state"].as_str().unwrap_or_default().to_owned()
    };
    let mut reports = Reports::default();
    let mut after = async |objects: &[NodeObservation]| {
        reports.take(&served.inventory, &database, objects.to_vec()).await.unwrap();
        state().await
    };
    assert_eq!(after(&[]).await, "Pending");
    // Its agent reads its object.
    let object = |state: &str, at: &str| NodeObservation {
        node_name: "node-a".to_owned(),
        instance_id: None,
        observed: Observed { state: state.to_owned(), observed_at: at.parse().ok(), interfaces: Vec::new() },
    };
    let early = [object("Failed", "2020-01-01T00:00:00Z")];
    assert_eq!(after(&early).await, "Failed");
    assert_eq!(after(&early).await, "Failed", "rows without a report say less than an object with one");
    // Then the tables: the object stays with its last words in it.
    let agent = AgentSource::new(&settings_of(&folder), "node-a".parse().unwrap());
    let nic = agent.read().await.unwrap().nics.remove(0);
    let (name, addresses) = (nic.slot.unwrap().interface(), nic.addresses);
    let outcome = Outcome::Applied { name, addresses };
    let report = NicReport { entry: nic.entry, revision: nic.revision, outcome };
    agent.report(&[report], &[]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(after(&early).await, "Configured");
    }
    let late = [object("InProgress", "2999-01-01T00:00:00Z")];
    for _ in 0..2 {
        assert_eq!(after(&late).await, "InProgress", "and its object again");
    }
}

fn settings_of(folder: &tempfile::TempDir) -> DatabaseSettings {
    DatabaseSettings::sqlite(folder.path().join("state.db"))
}
