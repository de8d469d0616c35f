//! `doctor`, by what it finds and by its exit codes.

use std::process::Output;

use serde_json::Value;

use crate::agent::run;
use crate::database::nic;
use crate::links;
use crate::world::World;

/// The findings, as code and severity.
fn findings(output: &Output) -> Vec<(String, String)> {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = document["findings"].as_array().unwrap();
    findings.iter().map(|finding| (text(finding, "code"), text(finding, "severity"))).collect()
}

fn found(code: &str, severity: &str) -> (String, String) {
    (code.to_owned(), severity.to_owned())
}

#[test]
fn a_file_of_others_about_our_nic_is_told_with_its_path_and_touches_nothing() {
    let world = World::new();
    let nic = nic(0);
    world.plug(&nic);
    world.database.publish(std::slice::from_ref(&nic), &[]);
    let json = || run(&world, &["doctor", "--output", "json"], &[]);
    assert!(!findings(&json()).contains(&found("ClaimedByFile", "refuse")));
    let netplan = world.root().join("etc/netplan");
    std::fs::create_dir_all(&netplan).unwrap();
    let text =
        format!("network: {{ethernets: {{other: {{match: {{macaddress: '{}'}}, dhcp4: true}}}}}}", nic.mac);
    std::fs::write(netplan.join("60-other.yaml"), text).unwrap();
    let guard = world.guard(&[]);
    let output = json();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(findings(&output).contains(&found("ClaimedByFile", "refuse")), "{output:?}");
    let text = run(&world, &["doctor"], &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    for part in ["refuse ClaimedByFile", "where: /etc/netplan/60-other.yaml", "mend:", &nic.mac] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    guard.assert_untouched(&world);
    assert!(!world.root().join("var").exists());
}

#[test]
fn rules_that_networkd_would_drop_are_told_and_the_drop_in_is_offered() {
    let world = World::new();
    links::add_rule(&world.node, "10.9.0.0/16", 77);
    let state = world.root().join("run/systemd/netif");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("state"), "").unwrap();
    let doctor = || run(&world, &["doctor", "--output", "json"], &[]);
    let output = doctor();
    assert_eq!(output.status.code(), Some(0), "a warning refuses nothing: {output:?}");
    let told = findings(&output);
    assert!(
        ["ForeignRules", "ForeignRoutes"].iter().all(|code| told.contains(&found(code, "warn"))),
        "{told:?}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("77: from 10.9.0.0/16 lookup 77"), "{output:?}");
    let printed = run(&world, &["doctor", "--print-dropin"], &[]);
    let installed = run(&world, &["doctor", "--install-dropin"], &[]);
    assert_eq!((printed.status.code(), installed.status.code()), (Some(0), Some(0)), "{installed:?}");
    let path = world.root().join("etc/systemd/networkd.conf.d/10-multinic.conf");
    assert_eq!(std::fs::read(path).unwrap(), printed.stdout);
    // It does not count before networkd starts anew.
    let output = doctor();
    assert!(findings(&output).contains(&found("ForeignRules", "warn")), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("restart systemd-networkd"), "{output:?}");
}

#[test]
fn a_node_whose_source_is_away_is_looked_at_all_the_same() {
    let world = World::new();
    let output = run(&world, &["doctor"], &[("DATABASE_URL", "sqlite:///nowhere/at/all.db")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the source cannot be read"), "{text}");
}
