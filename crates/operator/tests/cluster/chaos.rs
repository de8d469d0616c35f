//! Objects are deleted and edited while the spec changes and the operator dies, all at random: in the end everything is as an
//! operator wants it that starts from nothing, nothing is left over, and nothing moves any more.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use multinic_operator::kinds::Key;
use multinic_operator::observe::observe;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::bench::{Bench, NAMESPACE, WEEK, own_certificate};
use crate::mutations::{LASTING, another, base, contents, fields, set};

const NAME: &str = "multinic";
/// With this seed the same happens again, as far as it is ours: `MULTINIC_SEED`.
const SEED: &str = "MULTINIC_SEED";
const STEPS: usize = 80;
/// So many in any case, however long they take.
const LEAST_STEPS: usize = STEPS / 2;
/// No further steps after it.
const TIME: Duration = Duration::from_secs(75);
/// It does what the cluster's own programs may, so that it meets nobody who refuses.
const HAND: &str = "system:serviceaccount:kube-system:chaos";
/// What outlives the database, and owns itself then.
const DATA: [&str; 3] = [
    "PersistentVolumeClaim multinic-backups",
    "PersistentVolumeClaim mysql-storage-mariadb-0",
    "Secret multinic-database",
];

/// A spec that may be carried out.
fn spec(random: &mut StdRng) -> Value {
    let fields = fields();
    let is_in = |path: &str| {
        path.ends_with(".rotation") || !(path.starts_with("protection.") || LASTING.contains(&path))
    };
    let paths: Vec<&String> = fields.keys().filter(|path| is_in(path)).collect();
    let first = *paths.choose(random).unwrap();
    let mut spec = base(first);
    // It needs a database.
    let is_free = |path: &str| {
        path.starts_with("controller.") || (path.starts_with("agent.") && path != "agent.dataSource")
    };
    let more = [paths.choose(random), paths.choose(random)].into_iter().flatten().filter(|it| is_free(it));
    for path in more.chain([&first]) {
        set(&mut spec, path, another(path, &fields[path.as_str()]));
    }
    if first.ends_with(".rotation") {
        set(&mut spec, first, json!(random.random::<u32>().to_string()));
    }
    let is_free = !first.starts_with("agent.") && spec["agent"]["dataSource"] != json!("db");
    if is_free && random.random_bool(0.2) {
        spec.as_object_mut().unwrap().remove("agent");
    }
    if is_free && !first.starts_with("database.") && random.random_bool(0.2) {
        spec["database"] = json!({"enabled": false});
    }
    spec["protection"] = json!({"enableMutationPrevention": random.random_bool(0.5)});
    spec
}

/// Something in an object that the operator says is otherwise, or not there.
fn edit(random: &mut StdRng, key: &Key) -> Value {
    let spec = |spec: Value| json!({ "spec": spec });
    let template = |container: &str| {
        let containers = json!([{"name": container, "image": "not.ours/at-all:1"}]);
        spec(json!({"template": {"spec": {"containers": containers}}}))
    };
    let own = match (key.kind.name, key.name.as_str()) {
        ("Deployment", _) => vec![spec(json!({"replicas": 7})), template("controller")],
        ("StatefulSet", _) => vec![spec(json!({"replicas": 0})), template("mariadb")],
        ("DaemonSet", _) => vec![template("agent")],
        ("CronJob", _) => vec![spec(json!({"schedule": "1 1 1 1 1"}))],
        ("Service", _) => vec![spec(json!({"selector": {"app.kubernetes.io/name": "nobody"}}))],
        ("PodDisruptionBudget", _) => vec![spec(json!({"maxUnavailable": 3}))],
        ("ConfigMap", _) => vec![json!({"data": {"POLL_FAST_INTERVAL": "1s"}}), json!({"data": null})],
        ("ClusterRole" | "Role", _) => vec![json!({"rules": []})],
        ("ClusterRoleBinding" | "RoleBinding", _) => vec![json!({"subjects": []})],
        ("ValidatingAdmissionPolicy", _) => vec![spec(json!({"validations": [{"expression": "true"}]}))],
        ("ValidatingAdmissionPolicyBinding", _) => vec![spec(json!({"policyName": "nobody"}))],
        ("ValidatingWebhookConfiguration", _) => vec![json!({"webhooks": null})],
        ("Secret", "multinic-database") => {
            vec![json!({"data": {"password": null}}), json!({"data": null})]
        }
        ("Secret", _) => vec![json!({"data": {"tls.key": null}}), json!({"data": null})],
        _ => Vec::new(),
    };
    let label = json!({"metadata": {"labels": {"multinic.example.com/protected": null}}});
    own.choose(random).cloned().filter(|_| random.random_bool(0.8)).unwrap_or(label)
}

struct Chaos {
    bench: Bench,
    hand: kube::Client,
    is_running: bool,
    random: StdRng,
}

impl Chaos {
    async fn start(&mut self) {
        self.bench.run_asked(own_certificate(WEEK)).await;
        self.is_running = true;
    }

    async fn stop(&mut self) {
        self.bench.kill().await;
        self.is_running = false;
    }

    /// One thing happens, to whichever object there is.
    async fn step(&mut self) {
        let what = self.random.random_range(0..100);
        if what < 15 {
            match self.is_running {
                true => self.stop().await,
                false => self.start().await,
            }
            println!("it runs: {}", self.is_running);
            return;
        }
        if what < 35 {
            let mut spec = spec(&mut self.random);
            if self.random.random_bool(0.15) {
                spec["reconcileTrigger"] = json!({"interval": "1s"});
            }
            println!("wanted: {spec}");
            self.bench.want(NAME, spec).await;
            return;
        }
        let objects = observe(&self.bench.client, NAMESPACE).await.unwrap().objects;
        let keys: Vec<&Key> = objects.keys().collect();
        let Some(key) = keys.choose(&mut self.random) else { return };
        let api = key.api(self.hand.clone());
        // A claim goes with the pod that has it, and then there is no end to it.
        if what < 65 && key.kind.name != "PersistentVolumeClaim" {
            println!("deleted: {key}");
            let _ = api.delete(&key.name, &DeleteParams::background()).await;
        } else {
            let patch = edit(&mut self.random, key);
            println!("edited: {key}: {patch}");
            // Where lists are by name, the others stay.
            let patch = Patch::Strategic(patch);
            let done = api.patch(&key.name, &PatchParams::default(), &patch).await;
            // It may be gone by now.
            if let Err(kube::Error::Api(status)) = done {
                assert!(matches!(status.code, 404 | 409), "{key}: {patch:?}: {status:?}");
            }
        }
    }

    /// Waits until the spec is carried out, and accounts do not change any more.
    async fn until_done(&self) {
        self.bench.until_running(NAME).await;
        self.bench
            .until("no accounts change", async || {
                self.bench.be_the_kubelet().await;
                let conditions = self.bench.status(NAME).await.conditions;
                !conditions.iter().any(|condition| condition.type_ == "CredentialsRotating")
            })
            .await;
        self.bench.until_running(NAME).await;
    }
}

/// Without what is another each time: who owns it, what is generated, which of two accounts is in use, what the server chooses.
/// Annotations are those of pods' templates.
fn plain(value: &mut Value) {
    match value {
        Value::String(text) => {
            *text = text.replace("multinic-agent-b", "multinic-agent").replace("multinic-b", "multinic");
            // What the startup probe asks for.
            if let Some(end) = text.find("`revision-") {
                text.truncate(end);
            }
            // What it is answered by.
            if text.starts_with("init.") {
                text.truncate("init.".len());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(fields) => {
            for name in ["uid", "annotations", "caBundle", "nodePort"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(plain);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Keys of what the operator made that a pod needs to start, and that are not there.
async fn missing_keys(bench: &Bench) -> Vec<String> {
    let made = bench.made().await;
    let mut missing = Vec::new();
    for (kind, field) in [("Secret", "secret"), ("ConfigMap", "configMap")] {
        for (name, key) in needed(&contents(bench).await, field) {
            if !made.contains_key(&format!("{kind} {name}")) {
                continue;
            }
            let object = bench.get("", kind, &name).await.unwrap_or_default();
            if object["data"][&key].is_null() {
                missing.push(format!("{key} of {kind} {name}"));
            }
        }
    }
    missing
}

/// Names and keys of the Secrets or ConfigMaps that any pod's template mounts files of, or has variables from.
fn needed(objects: &BTreeMap<String, Value>, field: &str) -> BTreeSet<(String, String)> {
    fn search(value: &Value, field: &str, found: &mut BTreeSet<(String, String)>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &value[field];
        let name = text(if of["secretName"].is_null() { &of["name"] } else { &of["secretName"] });
        for item in of["items"].as_array().into_iter().flatten().filter(|_| of["optional"] != json!(true)) {
            found.insert((name.clone(), text(&item["key"])));
        }
        let variable = &value[format!("{field}KeyRef")];
        if variable.is_object() && variable["optional"] != json!(true) {
            found.insert((text(&variable["name"]), text(&variable["key"])));
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| search(item, field, found)),
            Value::Object(fields) => fields.values().for_each(|value| search(value, field, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    objects.values().for_each(|object| search(object, field, &mut found));
    found
}

async fn plain_contents(bench: &Bench) -> BTreeMap<String, Value> {
    let mut contents = contents(bench).await;
    contents.values_mut().for_each(plain);
    contents
}

#[tokio::test]
async fn whatever_happens_it_ends_as_wanted_and_nothing_moves_any_more() {
    let Some(bench) = Bench::empty().await else { return };
    let seed = env::var(SEED).ok().map_or_else(rand::random, |text| text.parse().unwrap());
    println!("{SEED}={seed}");
    let hand = bench.control_plane.client_for(HAND, &["system:masters"]).unwrap();
    let random = StdRng::seed_from_u64(seed);
    let mut chaos = Chaos { bench, hand, is_running: false, random };
    chaos.start().await;
    let first = spec(&mut chaos.random);
    chaos.bench.want(NAME, first).await;
    chaos.bench.until_running(NAME).await;

    let begun = Instant::now();
    let mut steps = 0;
    while steps < LEAST_STEPS || (steps < STEPS && begun.elapsed() < TIME) {
        chaos.step().await;
        chaos.bench.be_the_kubelet().await;
        // Somewhere in a turn.
        let pause = Duration::from_millis(chaos.random.random_range(0..150));
        tokio::time::sleep(pause).await;
        steps += 1;
    }
    println!("{steps} steps in {:?}", begun.elapsed());

    if !chaos.is_running {
        chaos.start().await;
    }
    let last = spec(&mut chaos.random);
    println!("wanted at last: {last}");
    chaos.bench.want(NAME, last.clone()).await;
    chaos.until_done().await;
    chaos.bench.until_calm(NAME).await;
    // Another process has nothing to add.
    chaos.stop().await;
    chaos.start().await;
    let before = chaos.bench.versions(NAME).await;
    chaos.bench.turn(NAME).await;
    assert_eq!(chaos.bench.versions(NAME).await, before);
    let after_chaos = plain_contents(&chaos.bench).await;
    assert_eq!(missing_keys(&chaos.bench).await, Vec::<String>::new());

    // From nothing.
    chaos.bench.operators().delete(NAME, &DeleteParams::default()).await.unwrap();
    chaos
        .bench
        .until("only data are left", async || {
            chaos.bench.be_the_kubelet().await;
            chaos.bench.made().await.keys().all(|name| DATA.contains(&name.as_str()))
        })
        .await;
    for (key, metadata) in observe(&chaos.bench.client, NAMESPACE).await.unwrap().objects {
        assert_eq!(metadata.owner_references.unwrap_or_default(), [], "{key}");
        let object = key.api(chaos.hand.clone());
        object.delete(&key.name, &DeleteParams::default()).await.unwrap();
    }
    chaos.bench.until("nothing is left", async || chaos.bench.made().await.is_empty()).await;
    chaos.bench.want(NAME, last).await;
    chaos.until_done().await;
    let from_nothing = plain_contents(&chaos.bench).await;
    for (name, wanted) in &from_nothing {
        assert_eq!(after_chaos.get(name), Some(wanted), "{name}");
    }
    for (name, left) in after_chaos.iter().filter(|(name, _)| !from_nothing.contains_key(*name)) {
        let is_data = DATA.contains(&name.as_str());
        let is_its_own = left == &json!("a secret") || left["metadata"]["owners"].is_null();
        assert!(is_data && is_its_own, "{name} is left over");
    }
    let operator = chaos.bench.operators().get(NAME).await.unwrap();
    assert!(operator.finalizers().is_empty());
}
