//! Manifests of every generation, as users of the older programs have them.

use std::fs;
use std::path::Path;

use kube::api::{Patch, PatchParams, PostParams};
use multinic_api::{MultiNicNodeConfig, MultiNicOperator, OpenstackConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Cluster, read};

/// Through the Rust type and back.
fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}

#[tokio::test]
async fn every_generation_applies_and_reads_back_unchanged() {
    let Some(cluster) = Cluster::new().await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let object = read(&path);
        let name = object["metadata"]["name"].as_str().unwrap();
        let mut without_status = object.clone();
        without_status.as_object_mut().unwrap().remove("status");
        let applied = cluster.create(&without_status).await;
        let applied = applied.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(applied["spec"], object["spec"], "{}", path.display());
        assert_eq!(applied.get("status"), None, "{}: nobody has said anything yet", path.display());

        let mut there = applied;
        if let Some(status) = object.get("status") {
            let patch = Patch::Merge(json!({ "status": status }));
            let written =
                cluster.objects(&object).patch_status(name, &PatchParams::default(), &patch).await.unwrap();
            there = serde_json::to_value(written).unwrap();
            assert_eq!(there["status"], *status, "{}", path.display());
        }
        // The types hold every field, so that a program which writes an object back loses none.
        let kind = object["kind"].as_str().unwrap();
        let mut through = match kind {
            "OpenstackConfig" => through::<OpenstackConfig>(&there),
            "MultiNicNodeConfig" => through::<MultiNicNodeConfig>(&there),
            _ => through::<MultiNicOperator>(&there),
        };
        // Lists that a status always has in the types.
        for list in ["conditions", "interfaceStatuses"] {
            if there["status"].get(list).is_none() && through["status"][list] == json!([]) {
                through["status"].as_object_mut().unwrap().remove(list);
            }
        }
        assert_eq!(through["spec"], there["spec"], "{}", path.display());
        assert_eq!(through.get("status"), there.get("status"), "{}", path.display());
        count += 1;
    }
    assert!(count >= 15, "only {count} manifests in {}", folder.display());
}

#[tokio::test]
async fn a_field_that_nobody_knows_is_pruned() {
    let Some(cluster) = Cluster::new().await else { return };
    let mut object = crate::manifest("node-minimal");
    object["spec"]["interfaces"][0]["speed"] = json!(10);
    object["spec"]["colour"] = json!("red");
    let said = cluster.refusal(&object).await;
    assert!(said.contains("spec.colour") && said.contains("speed"), "{said}");

    let typed = serde_json::from_value(object.clone()).unwrap();
    let taken = cluster.objects(&object).create(&PostParams::default(), &typed).await.unwrap();
    assert_eq!(taken.data["spec"], crate::manifest("node-minimal")["spec"]);
}

#[tokio::test]
async fn two_managers_each_have_their_own_interfaces() {
    let Some(cluster) = Cluster::new().await else { return };
    let one = crate::manifest("node-minimal");
    let name = one["metadata"]["name"].as_str().unwrap();
    let mut two = one.clone();
    two["spec"]["interfaces"][0]["macAddress"] = json!("fa:16:3e:00:00:02");
    for (manager, object) in [("one", &one), ("two", &two)] {
        let parameters = PatchParams::apply(manager);
        cluster.objects(object).patch(name, &parameters, &Patch::Apply(object)).await.unwrap();
    }
    let both = cluster.objects(&one).get(name).await.unwrap();
    let macs: Vec<&str> = both.data["spec"]["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|interface| interface["macAddress"].as_str().unwrap())
        .collect();
    assert_eq!(macs, ["FA:16:3E:00:00:01", "fa:16:3e:00:00:02"]);
}
