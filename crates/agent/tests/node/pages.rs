//! The health document, the probes and the metrics, over HTTP.

use crate::agent::{Agent, OFTEN};
use crate::database::nic;
use crate::world::{World, wait_until};

#[test]
fn the_health_document_has_the_flat_and_the_nested_keys() {
    let world = World::new();
    let (fine, missing) = (nic(0), nic(1));
    world.plug(&fine);
    world.database.publish(&[fine, missing], &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    let (status, _) = agent.get("/");
    let document = agent.document();
    assert_eq!(status, 200);
    // One of two entries is not as desired, and half is degraded.
    assert_eq!(document["status"], "degraded");
    assert_eq!(document["processed_vms"], 2);
    assert_eq!(document["failed_configs"], 1);
    assert_eq!(document["database_connected"], true);
    assert_eq!(document["deleted_interfaces"], 0);
    assert!(document["uptime"].as_str().unwrap().ends_with('s'));
    assert!(document["last_sync"].as_str().unwrap().ends_with('Z'));
    assert_eq!(document["components"]["database"]["healthy"], true);
    assert!(document["components"]["database"]["error"].is_null());
    assert_eq!(document["components"]["network_manager"]["type"], "netplan");
    assert_eq!(document["statistics"]["processed_vms"], 2);
    assert_eq!(document["statistics"]["failed_configs"], 1);
    assert!(document["timestamp"].is_string() && document["last_check"].is_string());
}

#[test]
fn a_database_that_is_down_is_unhealthy_and_no_reason_to_restart() {
    let world = World::new();
    world.database.sql("DROP TABLE multi_interface");
    let agent = Agent::start(&world, &[OFTEN]);
    agent.wait_cycles(2.0);
    assert_eq!(agent.get("/").0, 503);
    assert_eq!(agent.document()["status"], "unhealthy");
    assert_eq!(agent.document()["components"]["database"]["healthy"], false);
    assert_eq!(agent.get("/livez").0, 200);
    assert_eq!(agent.get("/readyz").0, 503);
}

#[test]
fn a_database_that_comes_back_is_healthy_again() {
    let world = World::new();
    world.database.sql("ALTER TABLE multi_interface RENAME TO elsewhere");
    let agent = Agent::start(&world, &[OFTEN]);
    agent.wait_cycles(1.0);
    world.database.sql("ALTER TABLE elsewhere RENAME TO multi_interface");
    wait_until(|| agent.log(), || agent.get("/").0 == 200);
    assert_eq!(agent.get("/readyz").0, 200);
    assert_eq!(agent.metric("multinic_polling_backoff_level"), 0.0);
}

#[test]
fn other_methods_are_not_allowed() {
    let world = World::new();
    let agent = Agent::start_ready(&world, &[OFTEN]);
    assert_eq!(agent.request("POST", "/"), (405, "Method not allowed\n".to_owned()));
}

#[test]
fn metrics_are_fed_under_the_names_of_the_contract() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    wait_until(|| agent.log(), || world.database.written(&nic).applied);
    assert_eq!(agent.metric(r#"multinic_interfaces_processed_total{status="success"}"#), 1.0);
    let labels = r#"{interface_name="multinic0",status="success"}"#;
    assert_eq!(agent.metric(&format!("multinic_interface_processing_duration_seconds_count{labels}")), 1.0);
    assert!(agent.metric("multinic_polling_cycles_total") >= 1.0);
    assert!(agent.metric("multinic_polling_cycle_duration_seconds_count") >= 1.0);
    assert_eq!(agent.metric("multinic_db_connection_status"), 1.0);
    assert_eq!(agent.metric("multinic_concurrent_tasks"), 0.0);
    let queries =
        |kind| agent.metric(&format!(r#"multinic_db_query_duration_seconds_count{{query_type="{kind}"}}"#));
    assert!(queries("get_pending") >= 1.0);
    assert_eq!(queries("update_status"), 1.0);
    let (_, text) = agent.get("/metrics");
    let info = text.lines().find(|line| line.starts_with("multinic_agent_info{")).unwrap();
    for label in ["version=\"", "os_type=\"ubuntu\"", "network_backend=\"netplan\"", "node_name=\"worker-1\""]
    {
        assert!(info.contains(label), "{info}");
    }
}

#[test]
fn log_lines_have_the_keys_of_the_contract() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let agent = Agent::start_ready(&world, &[OFTEN]);
    let line = agent.logged("interface configured").unwrap();
    assert_eq!(line["level"], "info");
    assert_eq!(line["node_name"], "worker-1");
    assert_eq!(line["mac_address"], nic.mac);
    assert_eq!(line["interface_name"], "multinic0");
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert!(agent.log().lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}
