//! Who may talk to whom: the policies of the manifest, with the addresses of those who have no labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::NetworkPolicySpec;
use serde_json::{Value, json};

use super::given;
use crate::object::{Object, Owner};

/// What stands in the manifest for nodes, for OpenStack, for API servers, and for the server that has backups.
const NODES: &str = "192.0.2.0/24";
const OPENSTACK: &str = "198.51.100.0/24";
const API_SERVERS: &str = "203.0.113.0/24";
const BACKUPS: &str = "233.252.0.0/24";
/// Those that are for a database that the operator runs, and the one for agents that read it.
const OF_DATABASE: [&str; 3] = ["multinic-to-database", "multinic-database", OF_AGENTS];
const OF_AGENTS: &str = "multinic-database-of-agents";
/// The one for backups in a bucket, and the one for a database that is restored from there.
const OF_BACKUPS: &str = "multinic-backups-elsewhere";
const OF_RESTORATION: &str = "multinic-restored-from-elsewhere";

/// Whether a spec wants policies.
pub(crate) fn is_wanted(spec: &MultiNicOperatorSpec) -> bool {
    spec.network_policy.as_ref().and_then(|policy| policy.enabled) == Some(true)
}

/// Where those are whom no label knows.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Every node.
    pub nodes: BTreeSet<IpAddr>,
    /// Every API server, and where it listens.
    pub api_servers: BTreeSet<SocketAddr>,
}

/// The policies, for a cluster with these addresses.
pub(super) fn objects(
    owner: &Owner,
    spec: &MultiNicOperatorSpec,
    manifests: &[Value],
    addresses: &Addresses,
) -> Vec<Object> {
    let blocks = blocks(spec, addresses);
    manifests
        .iter()
        .filter(|policy| is_for(spec, policy.pointer("/metadata/name").and_then(Value::as_str)))
        .filter_map(|policy| Object::new(owner, &filled(policy.clone(), &blocks)))
        .collect()
}

fn is_for(spec: &MultiNicOperatorSpec, name: Option<&str>) -> bool {
    let reads = spec.agent.as_ref().is_some_and(|agent| given(agent.data_source.as_ref()) == Some("db"));
    let is_elsewhere = || {
        let has_addresses = spec.network_policy.as_ref().and_then(|policy| policy.backup_cidrs.as_ref());
        spec.database.enabled
            && spec.database.backup.as_ref().is_some_and(|backup| backup.s3.is_some())
            && has_addresses.is_some_and(|cidrs| !cidrs.is_empty())
    };
    match name {
        Some(OF_BACKUPS) => is_elsewhere(),
        Some(OF_RESTORATION) => is_elsewhere() && given(spec.database.restore_from.as_ref()).is_some(),
        Some(OF_AGENTS) => spec.database.enabled && reads,
        Some(name) if OF_DATABASE.contains(&name) => spec.database.enabled,
        _ => true,
    }
}

/// What the stand-ins stand for.
struct Blocks {
    nodes: Vec<IpNet>,
    openstack: Vec<IpNet>,
    backups: Vec<IpNet>,
    api_servers: Vec<IpNet>,
    /// The same by the port at which they listen.
    listeners: BTreeMap<u16, Vec<IpNet>>,
}

fn blocks(spec: &MultiNicOperatorSpec, addresses: &Addresses) -> Blocks {
    let (node_cidrs, openstack_cidrs, backup_cidrs) = match &spec.network_policy {
        Some(NetworkPolicySpec { enabled: _, node_cidrs, openstack_cidrs, backup_cidrs }) => {
            (node_cidrs, openstack_cidrs, backup_cidrs)
        }
        None => (&None, &None, &None),
    };
    // The definition takes nothing else than these.
    let parsed = |cidrs: &Option<Vec<String>>| -> Vec<IpNet> {
        cidrs
            .iter()
            .flatten()
            .filter_map(|cidr| cidr.trim().parse::<IpNet>().ok())
            .map(|net| net.trunc())
            .collect()
    };
    let mut all = parsed(node_cidrs);
    all.extend(addresses.nodes.iter().copied().map(IpNet::from));
    let mut listeners: BTreeMap<u16, Vec<IpNet>> = BTreeMap::new();
    for server in &addresses.api_servers {
        listeners.entry(server.port()).or_default().push(server.ip().into());
    }
    let api_servers: Vec<IpNet> = addresses.api_servers.iter().map(|server| server.ip().into()).collect();
    // The same addresses in as few blocks as there can be: a fleet in one network is one.
    Blocks {
        nodes: IpNet::aggregate(&all),
        openstack: IpNet::aggregate(&parsed(openstack_cidrs)),
        backups: IpNet::aggregate(&parsed(backup_cidrs)),
        api_servers: IpNet::aggregate(&api_servers),
        listeners,
    }
}

fn filled(mut policy: Value, blocks: &Blocks) -> Value {
    for (rules, peers) in [("/spec/ingress", "from"), ("/spec/egress", "to")] {
        let Some(rules) = policy.pointer_mut(rules).and_then(Value::as_array_mut) else { continue };
        *rules = rules.drain(..).flat_map(|rule| at_their_ports(rule, blocks)).collect();
        rules.retain_mut(|rule| {
            let Some(found) = rule.get_mut(peers).and_then(Value::as_array_mut) else { return true };
            *found = found.iter().flat_map(|peer| replaced(peer, blocks)).collect();
            // A rule that names nobody is for everybody.
            !found.is_empty()
        });
    }
    policy
}

/// The rule for whoever asks API servers names no port: it becomes one for each at which some of them listen.
fn at_their_ports(rule: Value, blocks: &Blocks) -> Vec<Value> {
    if rule.get("ports").is_some() || rule.pointer("/to/0/ipBlock/cidr") != Some(&json!(API_SERVERS)) {
        return vec![rule];
    }
    let listeners = blocks.listeners.iter();
    let rule = |(port, servers): (&u16, &Vec<IpNet>)| {
        let to: Vec<Value> = servers.iter().map(of_block).collect();
        json!({"to": to, "ports": [{"protocol": "TCP", "port": port}]})
    };
    listeners.map(rule).collect()
}

fn of_block(block: &IpNet) -> Value {
    json!({"ipBlock": {"cidr": block}})
}

fn replaced(peer: &Value, blocks: &Blocks) -> Vec<Value> {
    let list = match peer.pointer("/ipBlock/cidr").and_then(Value::as_str) {
        Some(NODES) => &blocks.nodes,
        Some(OPENSTACK) => &blocks.openstack,
        Some(BACKUPS) => &blocks.backups,
        Some(API_SERVERS) => &blocks.api_servers,
        _ => return vec![peer.clone()],
    };
    list.iter().map(of_block).collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test says what it expects by failing loudly"
    )]

    use multinic_api::operator::{AgentSpec, DatabaseSpec};

    use super::*;
    use crate::manifests::Manifests;

    const NODE: &str = "10.0.0.1";
    /// No node.
    const API_SERVER: &str = "10.40.0.5";
    const SOUTH: &str = "10.20.3.4";
    const STRANGER: &str = "8.8.8.8";

    /// Somebody who talks or is talked to.
    #[derive(Debug, Clone)]
    enum Who {
        Pod { namespace: &'static str, labels: BTreeMap<String, String> },
        Address(&'static str),
    }

    /// A pod of ours, with what its manifest says of it.
    fn ours(name: &str) -> Who {
        let labels = template(name)["metadata"]["labels"].clone();
        Who::Pod { namespace: "here", labels: serde_json::from_value(labels).unwrap() }
    }

    fn others(namespace: &'static str, label: (&str, &str)) -> Who {
        Who::Pod { namespace, labels: [(label.0.to_owned(), label.1.to_owned())].into() }
    }

    const PROGRAMS: [&str; 5] =
        ["multinic-operator", "multinic-controller", "multinic-viola", "multinic-backup", "mariadb"];

    fn template(name: &str) -> Value {
        let Manifests { controller, database, .. } = Manifests::of("here").unwrap();
        let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap()["spec"]["template"].clone();
        match name {
            "multinic-operator" => read(include_str!("../../../../deploy/operator/deployment.yaml")),
            "multinic-viola" => read(include_str!("../../../../deploy/viola/deployment.yaml")),
            "multinic-controller" => json!(controller.deployment)["spec"]["template"].clone(),
            "multinic-backup" => json!(database.backup)["spec"]["jobTemplate"]["spec"]["template"].clone(),
            _ => json!(database.stateful_set)["spec"]["template"].clone(),
        }
    }

    fn ports_of(name: &str) -> BTreeMap<String, i64> {
        let containers = template(name)["spec"]["containers"].as_array().unwrap().clone();
        let ports = containers.iter().flat_map(|it| it["ports"].as_array().into_iter().flatten());
        ports
            .map(|it| (it["name"].as_str().unwrap().to_owned(), it["containerPort"].as_i64().unwrap()))
            .collect()
    }

    fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
        let is = |name: &str, values: &[&str]| {
            labels.get(name).is_some_and(|value| values.contains(&value.as_str()))
        };
        let labels_fit = selector["matchLabels"].as_object().into_iter().flatten();
        let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
        labels_fit.into_iter().all(|(name, value)| is(name, &[value.as_str().unwrap()]))
            && expressions.into_iter().all(|it| {
                let values: Vec<&str> =
                    it["values"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                is(it["key"].as_str().unwrap(), &values)
            })
    }

    fn is_peer(peer: &Value, who: &Who) -> bool {
        match who {
            Who::Address(address) => peer.pointer("/ipBlock/cidr").is_some_and(|cidr| {
                cidr.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address.parse::<IpAddr>().unwrap())
            }),
            Who::Pod { namespace, labels } => {
                let in_namespace = match peer.get("namespaceSelector") {
                    Some(selector) => {
                        let name = ("kubernetes.io/metadata.name".to_owned(), (*namespace).to_owned());
                        selects(selector, &[name].into())
                    }
                    None => *namespace == "here",
                };
                let is_any = peer.get("podSelector").is_none();
                peer.get("ipBlock").is_none()
                    && in_namespace
                    && (is_any || selects(&peer["podSelector"], labels))
            }
        }
    }

    /// As a network is to judge by the policies of a namespace.
    fn may(policies: &[Object], from: &Who, to: &Who, port: i64, names: &BTreeMap<String, i64>) -> bool {
        let sides = [(from, to, "Egress", "egress", "to"), (to, from, "Ingress", "ingress", "from")];
        sides.into_iter().all(|(who, other, type_, rules, peers)| {
            let Who::Pod { namespace: "here", labels } = who else { return true };
            let specs = policies.iter().map(|policy| &policy.content["spec"]);
            let applied: Vec<&Value> = specs
                .filter(|spec| spec["policyTypes"].as_array().unwrap().contains(&json!(type_)))
                .filter(|spec| selects(&spec["podSelector"], labels))
                .collect();
            let mut all = applied.iter().flat_map(|spec| spec[rules].as_array().into_iter().flatten());
            applied.is_empty()
                || all.any(|rule| {
                    let whom =
                        rule[peers].as_array().is_none_or(|all| all.iter().any(|peer| is_peer(peer, other)));
                    let at = rule["ports"].as_array().is_none_or(|all| {
                        all.iter().any(|it| match it["port"].as_str() {
                            Some(name) => names.get(name) == Some(&port),
                            None => it["port"] == json!(port),
                        })
                    });
                    whom && at
                })
        })
    }

    fn spec(database: bool, data_source: &str) -> MultiNicOperatorSpec {
        MultiNicOperatorSpec {
            database: DatabaseSpec { enabled: database, ..DatabaseSpec::default() },
            agent: Some(AgentSpec { data_source: Some(data_source.to_owned()), ..AgentSpec::default() }),
            network_policy: Some(NetworkPolicySpec {
                enabled: Some(true),
                node_cidrs: None,
                openstack_cidrs: Some(vec!["10.20.0.0/16".to_owned()]),
                backup_cidrs: None,
            }),
            ..MultiNicOperatorSpec::default()
        }
    }

    fn policies(spec: &MultiNicOperatorSpec, nodes: &[&str]) -> Vec<Object> {
        let addresses = Addresses {
            nodes: nodes.iter().map(|node| node.parse().unwrap()).collect(),
            api_servers: [format!("{API_SERVER}:16443").parse().unwrap()].into(),
        };
        objects(&Owner::of_tests(), spec, &Manifests::of("here").unwrap().network, &addresses)
    }

    #[test]
    fn who_has_to_talk_to_whom_may_and_nobody_else() {
        let policies = policies(&spec(true, "db"), &[NODE, "fd00::1"]);
        let may = |from: &Who, to: &Who, port: i64, of: &str| may(&policies, from, to, port, &ports_of(of));
        let [operator, controller, viola, backup, database] = PROGRAMS.map(ours);
        let (node, south, stranger) = (Who::Address(NODE), Who::Address(SOUTH), Who::Address(STRANGER));
        let api_server = Who::Address(API_SERVER);
        let dns = others("kube-system", ("k8s-app", "kube-dns"));
        let prometheus = others("monitoring", ("app", "prometheus"));
        let neighbour = others("here", ("app", "neighbour"));

        let needed = [
            ("its ledger", &controller, &database, 3306, "mariadb"),
            ("backups", &backup, &database, 3306, "mariadb"),
            ("the certificate that it shows", &operator, &database, 3306, "mariadb"),
            ("agents", &node, &database, 3306, "mariadb"),
            ("questions of API servers", &node, &operator, 9443, "multinic-operator"),
            ("questions of others", &api_server, &operator, 9443, "multinic-operator"),
            ("Keystone", &controller, &south, 5000, "mariadb"),
            ("publication", &controller, &viola, 8080, "multinic-viola"),
            (
                "publication elsewhere",
                &controller,
                &others("viola", ("app.kubernetes.io/name", "multinic-viola")),
                8080,
                "multinic-viola",
            ),
            ("metrics", &prometheus, &operator, 8080, "multinic-operator"),
            ("metrics", &prometheus, &controller, 8082, "multinic-controller"),
            ("health", &node, &operator, 8082, "multinic-operator"),
            ("metrics", &prometheus, &viola, 8082, "multinic-viola"),
            ("inventory", &prometheus, &controller, 18081, "multinic-controller"),
            ("requests", &prometheus, &controller, 8083, "multinic-controller"),
        ];
        for (what, from, to, port, of) in needed {
            assert!(may(from, to, port, of), "{what} at {port}");
        }
        for (name, from) in PROGRAMS.iter().zip([&operator, &controller, &viola, &backup, &database]) {
            assert!(may(from, &dns, 53, "mariadb"), "{name} and DNS");
            let asks = !matches!(*name, "mariadb" | "multinic-backup");
            assert_eq!(may(from, &node, 6443, "mariadb"), asks, "{name} and API servers");
            assert_eq!(may(from, &api_server, 16443, "mariadb"), asks, "{name} and API servers elsewhere");
            assert!(!may(from, &api_server, 22, "mariadb"), "{name}");
            for (to, port) in
                [(&stranger, 443), (&stranger, 53), (&node, 10250), (&neighbour, 80), (&prometheus, 80)]
            {
                assert!(!may(from, to, port, "mariadb"), "{name} and {to:?} at {port}");
            }
            assert_eq!(
                may(from, &south, 9696, "mariadb"),
                *name == "multinic-controller",
                "{name} and OpenStack"
            );
            for who in [&stranger, &south] {
                let ports = ports_of(name);
                assert!(ports.values().all(|port| !may(who, from, *port, name)), "{who:?} and {name}");
            }
        }
        for who in [&viola, &prometheus, &neighbour] {
            assert!(!may(who, &database, 3306, "mariadb"), "{who:?} and the database");
        }
        for who in [&neighbour, &prometheus, &controller] {
            assert!(!may(who, &operator, 9443, "multinic-operator"), "{who:?} and the webhook");
        }
        assert!(!may(&neighbour, &viola, 8080, "multinic-viola"));
    }

    #[test]
    fn every_port_that_a_program_opens_is_for_somebody() {
        let policies = policies(&spec(true, "db"), &[NODE]);
        let text = json!(policies.iter().map(|policy| &policy.content).collect::<Vec<_>>()).to_string();
        for program in PROGRAMS {
            for name in ports_of(program).keys() {
                assert!(text.contains(&format!("\"port\":\"{name}\"")), "{program}: {name}");
            }
        }
        assert!(![NODES, OPENSTACK, API_SERVERS, BACKUPS].iter().any(|it| text.contains(it)), "{text}");
    }

    #[test]
    fn backups_reach_a_bucket_elsewhere_and_the_database_only_to_be_restored_from_it() {
        let (backup, database, bucket) =
            (ours("multinic-backup"), ours("mariadb"), Who::Address("10.21.0.7"));
        let reference = json!({"name": "a", "key": "b"});
        let s3 =
            json!({"bucket": "b", "accessKeyIdSecretRef": reference, "secretAccessKeySecretRef": reference});
        let wanted = |s3: &Value, from: Option<&str>| {
            let mut spec = spec(true, "nodecr");
            spec.network_policy.as_mut().unwrap().backup_cidrs = Some(vec!["10.21.0.7/32".to_owned()]);
            spec.database.backup =
                serde_json::from_value(json!({"schedule": "0 3 * * *", "s3": s3.clone()})).unwrap();
            spec.database.restore_from = from.map(str::to_owned);
            let policies = policies(&spec, &[NODE]);
            [&backup, &database].map(|who| may(&policies, who, &bucket, 9000, &BTreeMap::new()))
        };
        assert_eq!(wanted(&s3, None), [true, false]);
        assert_eq!(wanted(&s3, Some("latest")), [true, true]);
        assert_eq!(wanted(&Value::Null, Some("latest")), [false, false]);
    }

    #[test]
    fn nobody_is_let_to_a_database_that_there_is_not() {
        let (database, node) = (ours("mariadb"), Who::Address(NODE));
        let may = |spec: &MultiNicOperatorSpec, nodes: &[&str]| {
            may(&policies(spec, nodes), &node, &database, 3306, &ports_of("mariadb"))
        };
        assert!(may(&spec(true, "db"), &[NODE]));
        assert!(!may(&spec(true, "nodecr"), &[NODE]));
        assert!(!may(&spec(true, "db"), &[]), "no node is not any node");
        let none = policies(&spec(false, "nodecr"), &[NODE]);
        assert!(!none.iter().any(|policy| policy.key.name.contains("database")));
    }
}
