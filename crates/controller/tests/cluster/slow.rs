//! Clouds, clusters and Violas that do not answer: whoever has nothing to do with them does not wait.

use multinic_core::ServerId;
use multinic_testbed::cloud_simulator::{Fault, Simulator};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::bench::{Bench, condition, until};
use crate::sinks::names;

/// Takes connections and never answers. Longer than any test waits.
const FOREVER: &str = "1h";

pub struct Silent {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Silent {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut held: Vec<TcpStream> = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap().0);
            }
        });
        Self { url, task }
    }
}

/// A kubeconfig that leads there.
pub fn kubeconfig_of(silent: &Silent) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "silent",
        "clusters": [{"name": "silent", "cluster": {"server": silent.url.replace("http", "https")}}],
        "contexts": [{"name": "silent", "context": {"cluster": "silent", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {"token": "none"}}],
    });
    kubeconfig.to_string()
}

/// A configuration `silent` whose place never answers, and its node.
pub async fn publish_to(bench: &Bench, silent: &Silent) -> ServerId {
    bench.write_secret("silent", &[("kubeconfig", &kubeconfig_of(silent))]).await;
    let server = bench.add_node("worker-0");
    let mut spec = bench.spec(&[&server]);
    spec["target"] = json!({"kubeconfigSecretRef": {"name": "silent", "key": "kubeconfig"}});
    bench.apply("silent", spec).await;
    server
}

/// Gives a configuration one more node and waits until that is carried out.
pub async fn grows(bench: &Bench, name: &str, nodes: &mut Vec<ServerId>) {
    let node = &format!("{name}-{}", nodes.len());
    nodes.push(bench.add_node(node));
    bench.apply(name, bench.spec(&nodes.iter().collect::<Vec<_>>())).await;
    bench.until_ready(name).await;
    until("its node is delivered", async || names(bench, node).await.len() == 1).await;
}

fn reasons(bench_status: &multinic_api::OpenstackConfigStatus) -> [String; 2] {
    ["Ready", "Reconciling"].map(|type_| condition(bench_status, type_).1)
}

#[tokio::test]
async fn many_configurations_of_a_cloud_that_never_answers_hold_up_no_other() {
    let Some(bench) = Bench::new().await else { return };
    let silent = Silent::start().await;
    let server = bench.add_node("worker-0");
    // More than are read at once, and more than requests may be in flight.
    for at in 0..12 {
        let mut spec = bench.spec(&[&server]);
        spec["credentials"]["authURL"] = json!(silent.url);
        spec["settings"] = json!({ "openstackTimeout": FOREVER });
        bench.apply(&format!("silent-{at}"), spec).await;
    }
    let controller = bench.start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        grows(&bench, "prompt", &mut nodes).await;
    }
    let status = bench.status("silent-0").await;
    assert_eq!(reasons(&status), ["ReadingCloud", "ReadingCloud"], "it says what it waits for: {status:?}");
    // The spec of one that waits can be mended.
    bench.apply("silent-1", bench.spec(&[&server])).await;
    bench.until_ready("silent-1").await;
    bench.delete("silent-2").await;
    bench.until_gone("silent-2").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_viola_that_never_answers_holds_up_only_what_goes_there() {
    let Some(bench) = Bench::new().await else { return };
    let silent = Silent::start().await;
    let server = bench.add_node("worker-0");
    let mut spec = bench.spec(&[&server]);
    spec["credentials"]["k8sProviderID"] = json!("cluster-1");
    spec["sinks"] = json!(["viola"]);
    spec["settings"] = json!({ "violaEndpoint": silent.url, "violaTimeout": FOREVER });
    bench.apply("silent", spec).await;
    let controller = bench.start().await;
    let status = bench.until_reason("silent", &["Delivering"]).await;
    assert_eq!(condition(&status, "Published").0, "False");
    assert_eq!(condition(&status, "Degraded").0, "", "nothing failed: {status:?}");
    let mut nodes = Vec::new();
    for _ in 0..3 {
        grows(&bench, "prompt", &mut nodes).await;
    }
    assert_eq!(condition(&bench.status("silent").await, "Ready").1, "Delivering");
    // Nobody knows what became of the request: it may still arrive.
    bench.delete("silent").await;
    until("it says for what it waits", async || {
        condition(&bench.status("silent").await, "Ready").1 == "CleanupPending"
    })
    .await;
    grows(&bench, "prompt", &mut nodes).await;
    assert!(bench.get("silent").await.is_some());
    controller.stop().await;
}

#[tokio::test]
async fn a_cluster_that_never_answers_holds_up_only_what_goes_there() {
    let Some(bench) = Bench::new().await else { return };
    let silent = Silent::start().await;
    let controller = bench.start().await;
    let mut nodes = Vec::new();
    grows(&bench, "prompt", &mut nodes).await;
    publish_to(&bench, &silent).await;
    let status = bench.until_reason("silent", &["Delivering", "KubernetesApplyError"]).await;
    for _ in 0..3 {
        grows(&bench, "prompt", &mut nodes).await;
    }
    assert_eq!(condition(&status, "Published").0, "False");
    // Nothing of it was ever there.
    bench.delete("prompt").await;
    bench.until_gone("prompt").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_first_delivery_that_takes_longer_than_a_turn_ends_ready() {
    let Some(bench) = Bench::new().await else { return };
    let fleet = bench.cloud.add_fleet(400, 1).unwrap();
    let mut spec = bench.spec(&fleet.servers.iter().collect::<Vec<_>>());
    spec["subnetIDs"] = json!(fleet.subnets.iter().map(multinic_core::SubnetId::as_str).collect::<Vec<_>>());
    bench.apply("fleet", spec).await;
    let controller = bench.start().await;
    let status = bench.until_ready("fleet").await;
    assert!(status.last_synced_at.is_some(), "{status:?}");
    controller.stop().await;
}

#[tokio::test]
async fn what_a_spec_lets_go_of_goes_although_another_cloud_hangs_whose_vms_are_named() {
    let Some(bench) = Bench::new().await else { return };
    let other = Simulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    // Simulators count their ids from the same beginning.
    let [spare, subnet] = ["10.41.0.0/24", "10.40.0.0/24"].map(|cidr| {
        other.add_subnet(&other.add_network(cidr, Some(1450)), cidr, cidr.parse().unwrap()).unwrap()
    });
    for at in 0..8 {
        other.attach(&other.add_server(&format!("spare-{at}")), &[&spare]).unwrap();
    }
    other.attach(&other.add_server("named-1"), &[&subnet]).unwrap();
    let named = |names: &[&str]| {
        let mut spec = bench.spec(&[]);
        spec["vmNames"] = json!(names);
        spec["subnetIDs"] = json!([subnet.as_str()]);
        spec["credentials"]["authURL"] = json!(other.url().as_str());
        spec["credentials"]["projectID"] = json!(other.project().as_str());
        spec["settings"] = json!({ "openstackTimeout": FOREVER });
        spec
    };
    let servers = ["worker-1", "worker-2", "worker-3"].map(|name| bench.add_node(name));
    let [one, two, three] = servers.each_ref();
    bench.apply("a", bench.spec(&[one, two, three])).await;
    bench.apply("named", named(&["named-1"])).await;
    let controller = bench.start().await;
    bench.until_ready("a").await;
    bench.until_ready("named").await;
    other.inject_always("/", Fault::Hang);
    let asked = other.total_requests();
    until("its cloud is being read", async || other.total_requests() > asked).await;
    bench.apply("a", bench.spec(&[one, two])).await;
    until("the node is gone", async || names(&bench, "worker-3").await.is_empty()).await;
    bench.until_ready("a").await;
    // What it was read for does not tell what another spec of it wants.
    bench.apply("named", named(&["named-1", "worker-2"])).await;
    until("it says that it waits", async || {
        condition(&bench.status("named").await, "Reconciling").1 == "ReadingCloud"
    })
    .await;
    bench.apply("a", bench.spec(&[one])).await;
    let status = bench.until_reason("a", &["RemovalUnproven"]).await;
    assert!(status.last_error.unwrap().contains("/named"));
    assert_eq!(names(&bench, "worker-2").await.len(), 1);
    assert_eq!(names(&bench, "named-1").await.len(), 1);
    bench.apply("named", named(&["named-1"])).await;
    other.clear_faults();
    until("the node is gone", async || names(&bench, "worker-2").await.is_empty()).await;
    bench.delete("a").await;
    bench.until_gone("a").await;
    bench.until_ready("named").await;
    assert_eq!(names(&bench, "named-1").await.len(), 1);
    controller.stop().await;
}
