//! The Viola API in front of real API servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod viola_support;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt as _, ResourceExt};
use multinic_api::{
    CLEANUP_FINALIZER, INSTANCE_ID_LABEL, MultiNicNodeConfig, NODE_NAME_LABEL, PROVIDER_ID_LABEL,
};
use multinic_testbed::kubernetes::ControlPlane;
use serde_json::{Value, json};
use viola_support::{Server, World, cluster, node, until};

#[tokio::test]
async fn nodes_go_to_the_cluster_of_their_provider() {
    let Some(world) = World::new().await else { return };
    let mut green = ControlPlane::start().unwrap();
    green.install_crd(&MultiNicNodeConfig::crd()).await.unwrap();
    let (blue_config, green_token, green_ca) = (world.file("blue"), world.file("token"), world.file("ca"));
    world.shared.admin().write_kubeconfig(&blue_config).unwrap();
    let account = cluster::admin_account(&green, "default", "viola").await;
    std::fs::write(&green_token, account).unwrap();
    std::fs::write(&green_ca, green.ca_pem()).unwrap();
    let routing = world.routing(&format!(
        "strict: true\ntargets:\n- providerId: blue\n  namespace: {}\n  kubeconfig: {}\n- providerId: green\n  \
         namespace: default\n  kubeApiServer: {}\n  kubeCaPath: {}\n  kubeTokenPath: {}\n",
        world.namespace,
        blue_config.display(),
        green.url(),
        green_ca.display(),
        green_token.display()
    ));
    let server = Server::start(routing).await;
    for provider in ["blue", "green"] {
        let name = format!("worker-{provider}");
        let (status, body) = server.post(Some(provider), &json!([node(&name, &[0])])).await;
        assert_eq!(status, 200, "{body}");
    }
    let in_green: Api<MultiNicNodeConfig> = Api::namespaced(green.client().unwrap(), "default");
    let names = async |api: &Api<MultiNicNodeConfig>| -> Vec<String> {
        api.list(&ListParams::default()).await.unwrap().items.iter().map(ResourceExt::name_any).collect()
    };
    assert_eq!(names(&world.api).await, ["worker-blue"]);
    assert_eq!(names(&in_green).await, ["worker-green"]);

    let body = json!([node("worker-1", &[0])]);
    let refused = async |provider| server.post_text(provider, &body.to_string()).await;
    assert_eq!(refused(Some("red")).await, (400, "no route for providerID \"red\"\n".to_owned()));
    assert_eq!(refused(None).await, (400, "providerID is required for routing\n".to_owned()));

    // One cluster is away: its nodes fail with a reason, the other's do not; and it comes back.
    green.kill();
    let (status, body) = server.post(Some("green"), &json!([node("worker-2", &[0])])).await;
    assert_eq!((status, &body["applied"]), (500, &json!(0)), "{body}");
    assert_eq!(body["errors"][0]["nodeName"], "worker-2");
    assert_eq!(server.post(Some("blue"), &json!([node("worker-2", &[0])])).await.0, 200);
    green.restart().unwrap();
    let (status, body) = server.post(Some("green"), &json!([node("worker-2", &[0])])).await;
    assert_eq!(status, 200, "{body}");
    // And so does this server, with the same settings.
    let server = server.restart().await;
    let (_, body) = server.post(Some("green"), &json!([node("worker-2", &[0])])).await;
    assert_eq!(body["results"][0]["status"], "unchanged");
}

#[tokio::test]
async fn what_was_posted_is_there_whole_and_the_answer_says_so() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    let (status, body) = server.post(Some("provider-a"), &json!([node("worker-1", &[0, 1])])).await;
    let object = world.get("worker-1").await;
    let version = object.resource_version().unwrap();
    let expected = json!({
        "applied": 1,
        "output": "multinicnodeconfig.multinic.io/worker-1 created\n",
        "results": [
            {"nodeName": "worker-1", "status": "created", "message": "created", "resourceVersion": version}
        ],
        "errors": []
    });
    assert_eq!((status, body), (200, expected));
    assert_eq!(object.labels()[NODE_NAME_LABEL], "worker-1");
    assert_eq!(object.labels()[INSTANCE_ID_LABEL], "server-a");
    assert_eq!(object.labels()[PROVIDER_ID_LABEL], "provider-a");
    let nic = serde_json::to_value(&object.spec.interfaces[0]).unwrap();
    let expected = json!({
        "id": 0, "portId": "port-0", "name": "multinic0", "macAddress": "fa:16:3e:00:00:00", "address": "10.0.0.10",
        "cidr": "10.0.0.0/24", "mtu": 1450, "networkId": "net-a", "subnetId": "subnet-a", "deviceId": "server-a"
    });
    assert_eq!(nic, expected);

    let (_, body) = server.post(Some("provider-a"), &json!([node("worker-1", &[0, 1])])).await;
    assert_eq!(body["results"][0]["status"], "unchanged");
    let (_, body) = server.post(None, &json!([node("worker-1", &[1])])).await;
    assert_eq!(body["output"], "multinicnodeconfig.multinic.io/worker-1 configured\n");
    assert_eq!(world.get("worker-1").await.spec.interfaces.len(), 1);
    // A missing list is not an empty one.
    let (status, text) = server.post_text(None, r#"[{"nodeName":"worker-1"}]"#).await;
    assert_eq!((status, text.as_str()), (400, "invalid json: [0]: missing field `interfaces`\n"));
    let (_, body) = server.post(None, &json!([node("worker-1", &[])])).await;
    assert_eq!(body["output"], "multinicnodeconfig.multinic.io/worker-1 deleted\n");
    assert_eq!(world.api.get_opt("worker-1").await.unwrap(), None);
    let (status, body) = server.post(None, &json!([node("worker-1", &[])])).await;
    assert_eq!((status, &body["results"][0]["status"]), (200, &json!("deleted")));
}

#[tokio::test]
async fn a_batch_with_a_mistake_changes_nothing() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    let mut bad = node("worker-2", &[0, 1]);
    bad["interfaces"][1]["macAddress"] = json!("fa:16:3e");
    let (status, text) = server.post_text(None, &json!([node("worker-1", &[0]), bad]).to_string()).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("[1].interfaces[1].macAddress: \"fa:16:3e\" is not a MAC address"), "{text}");
    let (status, text) =
        server.post_text(None, &json!([node("worker-1", &[0]), node("", &[0])]).to_string()).await;
    assert_eq!((status, text.as_str()), (400, "nodeName is required\n[1].nodeName: is blank\n"));
    let (status, text) = server.post_text(None, &json!([node("Worker_1", &[0])]).to_string()).await;
    assert_eq!(status, 400);
    assert!(
        text.starts_with("[0].nodeName: \"Worker_1\" cannot be the name of a Kubernetes object"),
        "{text}"
    );
    assert_eq!(world.api.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn one_node_that_fails_does_not_stop_the_others() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    let foreign = json!({"nodeName": "worker-2", "interfaces": [{"macAddress": "fa:16:3e:00:00:55"}]});
    let foreign = MultiNicNodeConfig::new("worker-2", serde_json::from_value(foreign).unwrap());
    world.api.create(&PostParams::default(), &foreign).await.unwrap();
    let batch = json!([node("worker-1", &[0]), node("worker-2", &[]), node("worker-3", &[0])]);
    let (status, body) = server.post(None, &batch).await;
    assert_eq!((status, &body["applied"]), (207, &json!(2)), "{body}");
    assert_eq!(body["errors"][0]["nodeName"], "worker-2");
    assert_eq!(body["errors"][0]["code"], 409);
    world.get("worker-2").await;
    let names: Vec<&str> =
        body["results"].as_array().unwrap().iter().map(|r| r["nodeName"].as_str().unwrap()).collect();
    assert_eq!(names, ["worker-1", "worker-3"]);
}

#[tokio::test]
async fn what_the_older_program_left_is_taken_over_and_can_be_deleted() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    let parameters =
        PostParams { field_manager: Some("kubectl-client-side-apply".to_owned()), ..PostParams::default() };
    for name in ["worker-1", "worker-2"] {
        let nics = json!([
            {"id": 0, "name": "multinic0", "macAddress": "FA:16:3E:00:00:01", "address": "10.0.0.11", "cidr": "10.0.0.0/24"},
            {"id": 1, "name": "multinic1", "macAddress": "fa:16:3e:00:00:02", "address": "10.0.0.12", "cidr": "10.0.0.0/24"}
        ]);
        let spec = json!({"nodeName": name, "instanceId": "server-a", "interfaces": nics});
        let mut object = MultiNicNodeConfig::new(name, serde_json::from_value(spec).unwrap());
        object.labels_mut().insert(NODE_NAME_LABEL.to_owned(), name.to_owned());
        world.api.create(&parameters, &object).await.unwrap();
    }
    let (status, body) = server.post(None, &json!([node("worker-1", &[1]), node("worker-2", &[])])).await;
    assert_eq!(status, 200, "{body}");
    let macs: Vec<_> =
        world.get("worker-1").await.spec.interfaces.into_iter().map(|nic| nic.mac_address).collect();
    assert_eq!(macs, ["fa:16:3e:00:00:01"]);
    assert_eq!(world.api.get_opt("worker-2").await.unwrap(), None);
}

#[tokio::test]
async fn what_others_made_stays_although_somebody_used_kubectl_on_it() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    let of = |manager: &str| PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
    let object = |name: &str| {
        let spec = json!({"nodeName": name, "interfaces": [{"macAddress": "fa:16:3e:00:00:01"}]});
        let mut object = MultiNicNodeConfig::new(name, serde_json::from_value(spec).unwrap());
        object.labels_mut().insert(NODE_NAME_LABEL.to_owned(), name.to_owned());
        object
    };
    // `kubectl annotate` of the controller's object, whose record of managers a restore may have lost.
    let apply = PatchParams::apply("multinic-controller");
    world.api.patch("applied", &apply, &Patch::Apply(object("applied"))).await.unwrap();
    world.api.create(&of("velero"), &object("restored")).await.unwrap();
    let mut owned = object("owned");
    owned.annotations_mut().insert("multinic.io/interface-owners".to_owned(), "{}".to_owned());
    world.api.create(&of("kubectl-client-side-apply"), &owned).await.unwrap();
    // Somebody wrote it, or put it under a program that applies it.
    world.api.create(&of("kubectl-create"), &object("written")).await.unwrap();
    world.api.create(&of("kubectl-client-side-apply"), &object("applied-too")).await.unwrap();
    let apply = PatchParams::apply("argocd-controller").force();
    world.api.patch("applied-too", &apply, &Patch::Apply(object("applied-too"))).await.unwrap();

    let nodes = ["applied", "restored", "owned", "written", "applied-too"];
    let note = Patch::Merge(json!({"metadata": {"annotations": {"example.com/note": "seen"}}}));
    for manager in ["kubectl-annotate", "kubectl-client-side-apply"] {
        let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        world.api.patch("applied", &parameters, &note).await.unwrap();
        world.api.patch("restored", &parameters, &note).await.unwrap();
    }
    let batch: Vec<Value> = nodes.iter().map(|name| node(name, &[])).collect();
    let (status, body) = server.post(None, &json!(batch)).await;
    assert_eq!((status, &body["results"]), (500, &json!([])), "{body}");
    let codes: Vec<_> = body["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect();
    assert_eq!(codes, [409; 5]);
    for name in nodes {
        assert_eq!(world.get(name).await.metadata.deletion_timestamp, None, "{name}");
    }
}

#[tokio::test]
async fn a_node_that_is_being_cleaned_up_is_told_apart() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    server.post(None, &json!([node("worker-1", &[0])])).await;
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    let patch = PatchParams::default();
    world.api.patch("worker-1", &patch, &finalizers(json!([CLEANUP_FINALIZER]))).await.unwrap();
    for _ in 0..2 {
        let (status, body) = server.post(None, &json!([node("worker-1", &[])])).await;
        assert_eq!((status, &body["results"][0]["status"]), (200, &json!("releasing")), "{body}");
    }
    let (status, body) = server.post(None, &json!([node("worker-1", &[0])])).await;
    assert_eq!((status, &body["errors"][0]["code"]), (500, &json!(409)), "{body}");
    world.api.patch("worker-1", &patch, &finalizers(json!([]))).await.unwrap();
    until("the object is gone", async || world.api.get_opt("worker-1").await.unwrap().is_none()).await;
    assert_eq!(server.post(None, &json!([node("worker-1", &[0])])).await.0, 200);
    world.api.delete("worker-1", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn paths_codes_and_texts_are_those_of_the_older_program() {
    let Some(world) = World::new().await else { return };
    let server = world.server().await;
    let posts = [
        ("{}".to_owned(), 400, "invalid json: "),
        ("[]".to_owned(), 400, "empty payload\n"),
        (format!("[\"{}\"]", "x".repeat(4 << 20)), 400, "failed to read body\n"),
    ];
    for (body, status, text) in posts {
        let answer = server.post_text(None, &body).await;
        assert!(answer.0 == status && answer.1.starts_with(text), "{answer:?}");
    }
    let path = "/v1/k8s/multinic/node-configs";
    for (method, path, status, text) in [
        ("GET", path, 405, "method not allowed\n"),
        ("DELETE", "/healthz", 200, "ok"),
        ("POST", "/openapi.yaml", 405, "method not allowed\n"),
        ("POST", "/docs", 405, "method not allowed\n"),
        ("GET", "/", 404, "404 page not found\n"),
    ] {
        assert_eq!(server.ask(method, path).await, (status, text.to_owned()), "{method} {path}");
    }
    let (status, yaml) = server.ask("GET", "/openapi.yaml").await;
    assert!(status == 200 && yaml.contains("x-provider-id"), "{yaml}");
    let (_, json) = server.ask("GET", "/openapi.json").await;
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let fields = &document["components"]["schemas"]["NodeInterface"]["properties"];
    for field in
        ["id", "portId", "name", "macAddress", "address", "cidr", "mtu", "deviceId", "networkId", "subnetId"]
    {
        assert!(fields[field].is_object(), "{field} is not described: {json}");
    }
    // The page and everything that it loads come from here.
    let (status, page) = server.ask("GET", "/docs").await;
    assert_eq!(status, 200);
    assert!(!page.contains("//unpkg") && !page.contains("https://"), "{page}");
    let links = page.split(['"', ' ']).collect::<Vec<_>>();
    let links = links.windows(2).filter(|pair| matches!(pair[0], "href=" | "src="));
    let loaded: Vec<&str> = links.map(|pair| pair[1]).collect();
    assert!(loaded.len() >= 6 && loaded.iter().all(|path| path.starts_with("docs/")), "{loaded:?}");
    for path in loaded {
        assert_eq!(server.status("GET", &format!("/{path}")).await, 200, "{path}");
    }
}
