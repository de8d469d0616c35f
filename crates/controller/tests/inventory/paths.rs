//! Both generations of paths, their codes and words; pages; tags; the description.

use multinic_controller::inventory::Inventory;
use multinic_store::inventory::{Observed, ObservedInterface};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::*;

async fn three() -> Bench {
    let bench = Bench::new().await;
    let entries = [entry("p2", "node-a", "i-3"), entry("p1", "node-b", "i-2"), entry("p1", "node-a", "i-1")];
    bench.inventory.apply(&entries).await.unwrap();
    bench
}

#[tokio::test]
async fn every_path_of_the_newer_generation_answers_as_it_did() {
    let bench = three().await;
    assert_eq!(bench.text("/healthz").await, (200, "ok".into()));
    let all = bench.json("/v1/interfaces/node-configs?providerId=p1").await;
    assert_eq!(names(&all), ["p1/node-a", "p1/node-b"]);
    let record = &all[0];
    assert_eq!(record["config"], config("node-a", "i-1", 1450));
    assert_eq!((record["instanceId"].as_str(), record.get("observed")), (Some("i-1"), None));
    assert_eq!(record["lastConfigHash"].as_str().unwrap().len(), 64);
    assert!(record["updatedAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(bench.json("/v1/interfaces/node-configs?providerId=nobody").await, json!([]));
    assert_eq!(names(&bench.json("/v1/interfaces/node-configs/by-instance/i-3").await), ["p2/node-a"]);
    assert_eq!(
        bench.json("/v1/interfaces/node-configs/by-instance/i-3?providerId=p2").await[0]["instanceId"],
        "i-3"
    );
    for path in ["/v1/interfaces/node-configs", "/v1/interfaces/node-configs?providerId="] {
        assert_eq!(bench.text(path).await, (400, "providerId required".into()));
    }
    for path in ["/v1/interfaces/node-configs/by-instance/", "/v1/interfaces/node-configs/by-instance/%20"] {
        assert_eq!(bench.text(path).await, (400, "instanceId required".into()));
    }
    for path in ["by-instance/i-9", "by-instance/i-3?providerId=p1"] {
        assert_eq!(
            bench.text(&format!("/v1/interfaces/node-configs/{path}")).await,
            (404, "not found".into())
        );
    }
    for path in ["/v1/interfaces/providers", "/v1/interfaces/catalog"] {
        let found = bench.json(path).await;
        let provider = &found["providers"][0];
        assert_eq!((provider["providerId"].as_str(), provider["nodeCount"].as_u64()), (Some("p1"), Some(2)));
        let mut keys: Vec<&String> = provider["nodes"][1].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["instanceId", "interfaceCount", "nodeName", "providerId", "updatedAt"]);
        assert_eq!(provider["nodes"][1]["interfaceCount"], 1);
        assert_eq!(found["providers"][1]["providerId"], "p2");
    }
}

#[tokio::test]
async fn every_path_of_the_older_generation_answers_as_it_did() {
    let bench = three().await;
    assert_eq!(
        names(&bench.json("/v1/inventory/node-configs").await),
        ["p1/node-a", "p1/node-b", "p2/node-a"]
    );
    let filtered = "/v1/inventory/node-configs?providerId=p1&nodeName=node-a&instanceId=i-1";
    assert_eq!(names(&bench.json(filtered).await), ["p1/node-a"]);
    assert_eq!(bench.json("/v1/inventory/node-configs?nodeName=node-b&instanceId=i-1").await, json!([]));
    for base in ["/v1/inventory/node-configs", "/v1/interfaces/node-configs"] {
        assert_eq!(names(&bench.json(&format!("{base}/node-a")).await), ["p1/node-a", "p2/node-a"]);
        assert_eq!(names(&bench.json(&format!("{base}/node-a?providerId=p2")).await), ["p2/node-a"]);
        assert_eq!(bench.text(&format!("{base}/nobody")).await, (404, "not found".into()));
    }
    assert_eq!(bench.text("/v1/inventory/node-configs/").await, (400, "nodeName required".into()));
    assert_eq!(bench.text("/v1/elsewhere").await, (404, "not found".into()));
}

#[tokio::test]
async fn nothing_can_be_written() {
    let bench = three().await;
    let paths = [
        "/v1/interfaces/providers",
        "/v1/interfaces/node-configs?providerId=p1",
        "/v1/interfaces/node-configs/watch",
        "/v1/interfaces/node-configs/by-instance/i-1",
        "/v1/inventory/node-configs",
        "/v1/inventory/node-configs/node-a",
        "/openapi.yaml",
        "/openapi.json",
        "/docs",
    ];
    for path in paths {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD] {
            let response = bench.client.request(method.clone(), bench.url(path)).send().await.unwrap();
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(response.headers()["allow"], "GET");
            if method != Method::HEAD {
                assert_eq!(response.text().await.unwrap(), "method not allowed");
            }
        }
    }
    let response = bench.client.post(bench.url("/healthz")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, "ok".into()));
}

#[tokio::test]
async fn an_inventory_that_is_turned_off_says_so() {
    let off = Inventory::open(&settings(&["--inventory-enabled", "false"]), None).await.unwrap();
    off.apply(&[entry("p", "node-a", "i-1")]).await.unwrap();
    let served = Served::new(off).await;
    for path in [
        "/v1/interfaces/providers",
        "/v1/interfaces/node-configs?providerId=p",
        "/v1/interfaces/node-configs/watch",
        "/v1/interfaces/node-configs/by-instance/i",
        "/v1/inventory/node-configs",
        "/v1/inventory/node-configs/n",
    ] {
        assert_eq!(served.text(path).await, (503, "inventory store not available".into()), "{path}");
    }
    assert_eq!(served.text("/healthz").await, (200, "ok".into()));
    served.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_a_500_with_its_words() {
    let bench = three().await;
    bench.inventory.store().unwrap().close().await;
    let (status, text) = bench.text("/v1/inventory/node-configs").await;
    assert_eq!(status, 500);
    assert!(text.contains("inventory.db"), "{text}");
}

#[tokio::test]
async fn a_fleet_is_read_in_pages_or_as_one_array() {
    let bench = Bench::new().await;
    let entries: Vec<_> = (0..2500).map(|n| entry("p", &format!("node-{n:05}"), &format!("i-{n}"))).collect();
    assert_eq!(bench.inventory.apply(&entries).await.unwrap().records, 2500);
    assert_eq!(bench.inventory.apply(&entries).await.unwrap().records, 0);

    let whole = names(&bench.json("/v1/interfaces/node-configs?providerId=p").await);
    assert_eq!(whole.len(), 2500);
    assert!(whole.is_sorted());

    let (mut found, mut sizes) = (Vec::new(), Vec::new());
    let mut next = Some("/v1/interfaces/node-configs?providerId=p&limit=1000".to_owned());
    while let Some(path) = next {
        let response = bench.get(&path).await;
        let header =
            |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        next = header("link").map(|link| {
            let (address, rel) = link.split_once('>').unwrap();
            assert_eq!(rel, "; rel=\"next\"");
            address.trim_start_matches('<').to_owned()
        });
        if let (Some(token), Some(next)) = (header("x-continue"), &next) {
            assert!(next.contains(&format!("continue={token}")) && next.contains("limit=1000"), "{next}");
        }
        let page = names(&response.json().await.unwrap());
        sizes.push(page.len());
        found.extend(page);
    }
    assert_eq!(sizes, [1000, 1000, 500]);
    assert_eq!(found, whole);

    for wrong in ["limit=0", "limit=1001", "limit=x", "continue=x"] {
        let (status, text) = bench.text(&format!("/v1/inventory/node-configs?{wrong}")).await;
        assert!(status == 400 && text.contains(wrong.split('=').next().unwrap()), "{status} {text}");
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let bench = three().await;
    for path in [
        "/v1/interfaces/providers",
        "/v1/interfaces/node-configs?providerId=p1",
        "/v1/inventory/node-configs/node-a",
    ] {
        let tag = bench.get(path).await.headers()["etag"].clone();
        let again =
            async |tag| bench.client.get(bench.url(path)).header("if-none-match", tag).send().await.unwrap();
        let response = again(tag.clone()).await;
        assert_eq!((response.status().as_u16(), &response.headers()["etag"]), (304, &tag));
        assert_eq!(response.bytes().await.unwrap().len(), 0);
        bench.inventory.apply(&[entry("p1", "node-a", "i-1")]).await.unwrap();
        assert_eq!(again(tag.clone()).await.status(), 304);
        let mtu = 1000 + u32::try_from(path.len()).unwrap();
        bench.inventory.apply(&[changed("p1", "node-b", "i-2", mtu)]).await.unwrap();
        let response = again(tag.clone()).await;
        assert_eq!(response.status(), 200);
        assert_ne!(response.headers()["etag"], tag);
    }
}

#[tokio::test]
async fn what_was_observed_is_beside_what_was_sent() {
    let bench = three().await;
    let observed = Observed {
        state: "Configured".into(),
        observed_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        interfaces: vec![ObservedInterface {
            name: "multinic0".into(),
            mac_address: "fa:16:3e:00:00:01".into(),
            addresses: vec!["10.0.0.10/24".into()],
            mtu: Some(1450),
            status: "Configured".into(),
            reason: String::new(),
        }],
    };
    bench.inventory.observe("p1", "node-a", &observed).await.unwrap();
    let found = bench.json("/v1/interfaces/node-configs/by-instance/i-1").await;
    assert_eq!(
        found[0]["observed"],
        json!({"state": "Configured", "observedAt": "2026-01-02T03:04:05Z", "interfaces": [{
            "name": "multinic0", "macAddress": "fa:16:3e:00:00:01", "addresses": ["10.0.0.10/24"], "mtu": 1450,
            "status": "Configured"}]})
    );
}

#[tokio::test]
async fn the_description_names_every_path_and_needs_no_network() {
    let bench = three().await;
    let json = bench.json("/openapi.json").await;
    assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
    let response = bench.get("/openapi.yaml").await;
    assert_eq!(response.headers()["content-type"], "application/yaml");
    let yaml: Value = serde_saphyr::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(yaml, json);
    let paths: Vec<&String> = json["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths.len(), 6, "{paths:?}");
    for path in paths {
        let path = path.replace("{instanceId}", "i-1").replace("{nodeName}", "node-a");
        assert_eq!(bench.get(&format!("{path}?providerId=p1")).await.status(), 200, "{path}");
    }
    // What a record holds is what is described.
    bench
        .inventory
        .observe("p1", "node-a", &Observed { state: "Pending".into(), ..Observed::default() })
        .await
        .unwrap();
    let record = bench.json("/v1/inventory/node-configs/node-a").await;
    let described = json["components"]["schemas"]["Record"]["properties"].as_object().unwrap();
    for key in record[0].as_object().unwrap().keys() {
        assert!(described.contains_key(key), "{key}");
    }

    let response = bench.get("/docs/").await;
    assert!(response.status().is_redirection() && response.headers()["location"] == "../docs");
    let page = bench.get("/docs").await;
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("swagger-ui") && !page.contains("http://") && !page.contains("https://"), "{page}");
    let parts: Vec<&str> = page.split(['"', '\'']).filter(|part| part.starts_with("docs/")).collect();
    assert!(parts.len() >= 6, "{page}");
    for part in parts {
        assert_eq!(bench.get(&format!("/{part}")).await.status(), 200, "{part}");
    }
    let start = bench.get("/docs/swagger-initializer.js").await.text().await.unwrap();
    assert!(start.contains("\"openapi.json\""), "{start}");
    assert_eq!(bench.text("/docs/nothing").await, (404, "not found".into()));
}
