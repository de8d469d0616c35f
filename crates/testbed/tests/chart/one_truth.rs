//! The chart's objects are those of `deploy/`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::helm::{Helm, key, kubectl_installed, objects, root};

/// What Helm's users expect of every object, and the kustomization has no use for.
const RELEASE_LABELS: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];
/// Replaces the pods when their variables change.
const CHECKSUM: &str = "checksum/config";
/// Keeps a volume.
const POLICY: &str = "helm.sh/resource-policy";
/// The kustomizations name no version.
const LATEST: [&str; 2] = ["--set", "image.tag=latest"];

fn by_key(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut map = BTreeMap::new();
    for object in objects {
        let key = key(&object);
        assert!(map.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    map
}

fn remove(object: &mut Value, at: &str, names: &[&str]) {
    let Some(texts) = object.pointer_mut(at).and_then(Value::as_object_mut) else { return };
    texts.retain(|name, _| !names.contains(&name.as_str()));
    if texts.is_empty()
        && let Some((parent, last)) = at.rsplit_once('/')
    {
        object.pointer_mut(parent).and_then(Value::as_object_mut).map(|parent| parent.remove(last));
    }
}

/// What says the same gets the same form: kubectl adds lines to folded texts, which are expressions here, and puts added
/// volumes and variables first.
fn plain(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\n') => {
            *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        Value::Array(values) => values.iter_mut().for_each(plain),
        Value::Object(fields) => {
            for (name, value) in fields {
                plain(value);
                if ["volumes", "volumeMounts", "env"].contains(&name.as_str()) {
                    value.as_array_mut().unwrap().sort_by_key(|item| item["name"].to_string());
                }
            }
        }
        _ => (),
    }
}

/// What the chart makes, without what is Helm's own.
fn of_chart(helm: &Helm, arguments: &[&str]) -> BTreeMap<String, Value> {
    // What is only there while a release is taken away is in no kustomization.
    let mut objects = helm.template(&[&["--no-hooks"], arguments].concat());
    for object in &mut objects {
        remove(object, "/metadata/labels", &RELEASE_LABELS);
        remove(object, "/metadata/annotations", &[POLICY]);
        remove(object, "/spec/template/metadata/annotations", &[CHECKSUM]);
    }
    by_key(objects)
}

/// What a kustomization makes, without the definitions and the namespace, which are not of the chart's templates. None
/// without kubectl.
fn of_kustomization(folder: &str) -> Option<BTreeMap<String, Value>> {
    if !kubectl_installed() {
        return None;
    }
    let output = Command::new("kubectl").args(["kustomize", folder]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut objects = objects(&String::from_utf8(output.stdout).unwrap());
    objects.retain(|object| object["kind"] != "CustomResourceDefinition" && object["kind"] != "Namespace");
    Some(by_key(objects))
}

/// Each difference by its path, so that a failure can be read.
fn differences(at: &str, chart: &Value, kustomization: &Value, found: &mut Vec<String>) {
    if let (Value::Object(left), Value::Object(right)) = (chart, kustomization) {
        let nothing = Value::Null;
        let all: Map<String, Value> = left.clone().into_iter().chain(right.clone()).collect();
        for name in all.keys() {
            let sides = [left, right].map(|side| side.get(name).unwrap_or(&nothing));
            differences(&format!("{at}/{name}"), sides[0], sides[1], found);
        }
    } else if chart != kustomization {
        found.push(format!("{at}: the chart has {chart}, the kustomization {kustomization}"));
    }
}

fn assert_same(chart: BTreeMap<String, Value>, kustomization: BTreeMap<String, Value>) {
    let mut found = Vec::new();
    let [chart, kustomization] = [chart, kustomization].map(|objects| {
        let mut objects = Value::Object(objects.into_iter().collect());
        plain(&mut objects);
        objects
    });
    differences("", &chart, &kustomization, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_chart_makes_what_the_kustomization_makes() {
    let Some(helm) = Helm::installed() else { return };
    let Some(kustomization) = of_kustomization("deploy/default") else { return };
    assert!(kustomization.len() > 25, "{:?}", kustomization.keys());
    // Viola is optional in the chart.
    let chart = of_chart(&helm, &[&LATEST[..], &["--set", "viola.enabled=true"]].concat());
    assert_same(chart, kustomization);
}

#[test]
fn the_operator_is_that_of_the_kustomization_and_makes_the_controller_in_place_of_the_chart() {
    let Some(helm) = Helm::installed() else { return };
    let Some(kustomization) = of_kustomization("deploy/operator") else { return };
    let settings = ["--set", "operator.enabled=true,agent.enabled=false,rbac.userRoles=false"];
    let mut chart = of_chart(&helm, &[LATEST, settings].concat());
    let operator = chart.remove("MultiNicOperator multinic-system multinic").unwrap();
    assert_same(chart, kustomization);
    assert_eq!(operator["spec"]["controller"]["image"], "multinic:latest");

    // Its settings are those that the chart's own controller would have.
    let own = of_chart(&helm, &[]);
    let mut own = own["ConfigMap multinic-system operator-config"]["data"].as_object().unwrap().clone();
    own.retain(|_, value| value != "");
    assert_eq!(operator["spec"]["controller"]["settings"], Value::Object(own));
}

#[test]
fn no_secret_of_the_chart_has_a_name_that_the_operator_gives_to_its_own() {
    let Some(helm) = Helm::installed() else { return };
    let rights = fs::read_to_string(root().join("deploy/operator/rbac.yaml")).unwrap();
    let mut names = Vec::new();
    for object in objects(&rights) {
        for rule in object["rules"].as_array().into_iter().flatten() {
            if rule["resources"].as_array().unwrap().iter().any(|kind| kind == "secrets") {
                names.extend(rule["resourceNames"].as_array().into_iter().flatten().cloned());
            }
        }
    }
    assert!(names.iter().any(|name| name == "multinic-database"), "{names:?}");

    let database = "database.host=mariadb.example,database.password=one,database.agent.user=agent,database.agent.password=two";
    let made = helm.template(&["--set", database]);
    let secrets: Vec<_> = made.iter().filter(|object| object["kind"] == "Secret").collect();
    assert_eq!(secrets.len(), 2);
    for secret in secrets {
        assert!(!names.contains(&secret["metadata"]["name"]), "{secret}");
    }
}

#[test]
fn what_the_components_change_are_values_of_the_chart() {
    let Some(helm) = Helm::installed() else { return };
    // Kustomizations name their parts by relative paths.
    let folder = tempfile::tempdir_in(root().join("target")).unwrap();
    let components = ["persistence", "sysconfig", "networkd-drop-in"]
        .map(|name| format!("../../deploy/components/{name}"));
    let text = json!({ "resources": ["../../deploy/default"], "components": components });
    fs::write(folder.path().join("kustomization.yaml"), text.to_string()).unwrap();
    let Some(kustomization) = of_kustomization(folder.path().to_str().unwrap()) else { return };
    let values = "viola.enabled=true,persistence.enabled=true,agent.sysconfig=true,agent.installDropIn=true";
    assert_same(of_chart(&helm, &[LATEST, ["--set", values]].concat()), kustomization);
}

#[test]
fn another_namespace_changes_nothing_but_the_namespace() {
    let Some(helm) = Helm::installed() else { return };
    let arguments =
        ["template", "multinic", crate::helm::CHART, "--set", "viola.enabled=true", "--namespace"];
    let usual = helm.run(&[&arguments[..], &["multinic-system"]].concat());
    let other = helm.run(&[&arguments[..], &["elsewhere"]].concat());
    let moved = |text: &str| {
        let mut map = by_key(objects(text));
        for object in map.values_mut() {
            remove(object, "/spec/template/metadata/annotations", &[CHECKSUM]);
        }
        map
    };
    assert_same(moved(&other), moved(&usual.replace("multinic-system", "elsewhere")));
}
