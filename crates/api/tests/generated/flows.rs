//! The table of who may talk to whom, from the policies that say so.

use std::fmt::Write as _;

use serde_json::Value;

/// What stands for them in policies.
const API_SERVERS: &str = "203.0.113.0/24";

/// As Markdown.
pub(super) fn of(policies: &[Value]) -> String {
    let mut text =
        "| policy | pods | may | whom | at ports | what for |\n|---|---|---|---|---|---|\n".to_owned();
    for policy in policies {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let why = policy["metadata"]["annotations"]["kubernetes.io/description"].as_str().unwrap();
        let pods = pods(&policy["spec"]["podSelector"]);
        let mut row = |may: &str, whom: &str, ports: &str| {
            let _ = writeln!(text, "| `{name}` | {pods} | {may} | {whom} | {ports} | {why} |");
        };
        let types: Vec<&str> =
            policy["spec"]["policyTypes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let rules = |key: &str| policy["spec"][key].as_array().cloned().unwrap_or_default();
        let all = [("Ingress", "be asked by", "ingress", "from"), ("Egress", "ask", "egress", "to")];
        for (type_, may, key, peers) in all {
            assert!(types.contains(&type_) || rules(key).is_empty(), "{name} has rules without effect");
            for rule in rules(key) {
                let whom: Vec<String> = rule[peers].as_array().unwrap().iter().map(peer).collect();
                row(may, &whom.join("; "), &ports(&rule));
            }
        }
        if rules("ingress").is_empty() && rules("egress").is_empty() {
            row("neither ask nor be asked by", "anybody", "–");
        }
    }
    text
}

fn peer(peer: &Value) -> String {
    match (peer.get("ipBlock"), peer.get("namespaceSelector"), peer.get("podSelector")) {
        (Some(block), None, None) => match block["cidr"].as_str().unwrap() {
            "192.0.2.0/24" => "nodes and `nodeCIDRs`".to_owned(),
            "198.51.100.0/24" => "`openstackCIDRs`".to_owned(),
            "233.252.0.0/24" => "`backupCIDRs`".to_owned(),
            API_SERVERS => "API servers".to_owned(),
            cidr => format!("`{cidr}`"),
        },
        (None, None, Some(selector)) => pods(selector),
        (None, Some(namespaces), Some(selector)) => {
            format!("{} in {}", pods(selector), namespaces_of(namespaces))
        }
        (None, Some(namespaces), None) => format!("all pods in {}", namespaces_of(namespaces)),
        _ => panic!("{peer}"),
    }
}

fn namespaces_of(selector: &Value) -> String {
    match selector["matchLabels"]["kubernetes.io/metadata.name"].as_str() {
        Some(name) => format!("`{name}`"),
        None => "all namespaces".to_owned(),
    }
}

fn pods(selector: &Value) -> String {
    const NAME: &str = "app.kubernetes.io/name";
    let labels = selector["matchLabels"].as_object();
    if let Some(labels) = labels {
        let named = labels.get(NAME).map(|name| format!("`{}`", name.as_str().unwrap()));
        let others = labels.iter().map(|(name, value)| format!("`{name}={}`", value.as_str().unwrap()));
        return named.unwrap_or_else(|| others.collect::<Vec<_>>().join(", "));
    }
    let Some(expressions) = selector["matchExpressions"].as_array() else { return "all pods".to_owned() };
    assert!(expressions.iter().all(|it| it["key"] == NAME && it["operator"] == "In"), "{selector}");
    let names = expressions.iter().flat_map(|it| it["values"].as_array().unwrap());
    names.map(|name| format!("`{}`", name.as_str().unwrap())).collect::<Vec<_>>().join(", ")
}

fn ports(rule: &Value) -> String {
    let Some(ports) = rule["ports"].as_array() else {
        let are_theirs = rule["to"][0]["ipBlock"]["cidr"] == API_SERVERS;
        return if are_theirs { "theirs" } else { "all" }.to_owned();
    };
    let port = |port: &Value| match &port["port"] {
        Value::String(name) => format!("{} `{name}`", port["protocol"].as_str().unwrap()),
        number => format!("{} {number}", port["protocol"].as_str().unwrap()),
    };
    ports.iter().map(port).collect::<Vec<_>>().join(", ")
}
