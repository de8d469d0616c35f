//! The definitions themselves.

use hyper::http::{Method, Request, header};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::client::Body;
use kube::{Api, ResourceExt as _};
use multinic_api::definitions;
use serde_json::Value;

use crate::Cluster;

#[tokio::test]
async fn the_api_server_takes_the_definitions_without_a_warning() {
    let Some(cluster) = Cluster::new().await else { return };
    for document in definitions::documents().unwrap() {
        let value: Value = serde_saphyr::from_str(&document.yaml).unwrap();
        let name = value["metadata"]["name"].as_str().unwrap();
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=test&force=true&fieldValidation=Strict"
        );
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(Body::from(document.yaml.into_bytes()))
            .unwrap();
        let answer = cluster.client.send(request).await.unwrap();
        let warnings: Vec<_> = answer.headers().get_all(header::WARNING).iter().collect();
        assert!(answer.status().is_success() && warnings.is_empty(), "{}: {warnings:?}", answer.status());

        let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
        let there = definitions.get(name).await.unwrap();
        let conditions = there.status.unwrap().conditions.unwrap();
        let true_ones: Vec<&str> = conditions
            .iter()
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(true_ones, ["NamesAccepted", "Established"], "{name}");
    }
}

#[test]
fn the_yaml_says_what_the_types_say() {
    let documents = definitions::documents().unwrap();
    for (definition, document) in definitions::all().iter().zip(documents) {
        let read: Value = serde_saphyr::from_str(&document.yaml).unwrap();
        assert_eq!(read, serde_json::to_value(definition).unwrap(), "{}", definition.name_any());
    }
}

/// What `kubectl get` prints, as the server makes it.
async fn table(cluster: &Cluster, path: &str) -> Vec<String> {
    let path = format!("/apis/{}", path.replace("{}", &cluster.namespace));
    let request = Request::get(path)
        .header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = cluster.client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    columns
        .map(|column| {
            let wide = if column["priority"] == 0 { "" } else { " (wide)" };
            format!("{}{wide}", column["name"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn get_prints_what_matters() {
    let Some(cluster) = Cluster::new().await else { return };
    assert_eq!(
        table(&cluster, "multinic.example.com/v1alpha1/namespaces/{}/openstackconfigs").await,
        ["Name", "Ready", "Reason", "NICs", "Synced (wide)", "Age"]
    );
    assert_eq!(
        table(&cluster, "multinic.io/v1alpha1/namespaces/{}/multinicnodeconfigs").await,
        ["Name", "Node", "State", "Ready", "Reason (wide)", "Age"]
    );
    assert_eq!(
        table(&cluster, "multinic.example.com/v1alpha1/namespaces/{}/multinicoperators").await,
        ["Name", "Phase", "Controller", "Database", "Protection", "Age"]
    );
}

#[test]
fn short_names_and_the_category_are_those_of_the_documentation() {
    let names: Vec<_> = definitions::all()
        .into_iter()
        .map(|definition| {
            let names = definition.spec.names;
            (names.kind, names.short_names.unwrap().join(" "), names.categories.unwrap().join(" "))
        })
        .collect();
    let expected = [
        ("OpenstackConfig", "osc", "multinic"),
        ("MultiNicNodeConfig", "mnnc mnc", "multinic"),
        ("MultiNicOperator", "mno", "multinic"),
    ];
    let expected = expected.map(|(kind, short, category)| (kind.into(), short.into(), category.into()));
    assert_eq!(names, expected);
}
