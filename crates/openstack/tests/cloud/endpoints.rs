//! Which endpoint is used.

use multinic_core::config::CloudAccess;
use multinic_openstack::{CloudError, EndpointError};
use multinic_testbed::cloud_simulator::Endpoint;

use crate::{Scene, client, scene};

fn endpoint(scene: &Scene, service: &str, interface: &str, region: &str) -> Endpoint {
    let url = scene.cloud.url().to_string();
    Endpoint { service: service.into(), interface: interface.into(), region: region.into(), url }
}

async fn error(scene: &Scene, change: impl FnOnce(&mut CloudAccess)) -> CloudError {
    let mut access = scene.cloud.access();
    change(&mut access);
    client(&access).snapshot(&scene.selection()).await.unwrap_err()
}

#[tokio::test]
async fn another_region_or_interface_is_no_substitute() {
    let scene = scene().await;
    let one = |service| endpoint(&scene, service, "public", "RegionOne");
    scene.cloud.set_endpoints(vec![one("network"), one("compute")]);
    for (interface, region) in
        [("internal", Some("RegionOne")), ("public", Some("RegionTwo")), ("admin", None)]
    {
        let error = error(&scene, |access| {
            access.endpoints.interface = interface.to_owned();
            access.endpoints.region = region.map(str::to_owned);
        })
        .await;
        assert!(matches!(error, CloudError::NeutronEndpoint(EndpointError::NoEndpoint { .. })), "{error}");
        assert!(error.to_string().contains("public in RegionOne: http://127.0.0.1"), "{error}");
        assert_eq!((error.reason(), error.retry()), ("NeutronEndpointError", false));
    }
    assert_eq!(scene.cloud.count("/v2.0"), 0);
}

#[tokio::test]
async fn several_regions_need_a_choice() {
    let scene = scene().await;
    let endpoints = ["RegionOne", "RegionTwo"].map(|region| endpoint(&scene, "network", "public", region));
    let mut endpoints = endpoints.to_vec();
    endpoints.push(endpoint(&scene, "compute", "public", "RegionOne"));
    endpoints[1].url.push_str("nowhere");
    scene.cloud.set_endpoints(endpoints);
    let failed = error(&scene, |_| {}).await;
    assert!(matches!(failed, CloudError::NeutronEndpoint(EndpointError::Several { .. })), "{failed}");
    let mut access = scene.cloud.access();
    access.endpoints.region = Some("RegionOne".to_owned());
    client(&access).snapshot(&scene.selection()).await.unwrap();
}

#[tokio::test]
async fn a_catalog_without_nova_says_so() {
    let scene = scene().await;
    scene.cloud.set_endpoints(vec![endpoint(&scene, "network", "public", "RegionOne")]);
    let error = error(&scene, |_| {}).await;
    assert_eq!(error.reason(), "NovaEndpointError", "{error}");
    assert!(error.to_string().contains("network"), "{error}");
}

#[tokio::test]
async fn a_version_is_never_doubled() {
    let scene = scene().await;
    let url = |path: &str| Some(scene.cloud.url().join(path).unwrap());
    scene.cloud.set_endpoints(vec![]);
    for (neutron, nova) in [("", ""), ("v2.0", "v2.1"), ("v2.0/", "v2.1/")] {
        let mut access = scene.cloud.access();
        access.endpoints.neutron = url(neutron);
        access.endpoints.nova = url(nova);
        client(&access).snapshot(&scene.selection()).await.unwrap();
    }
    assert!(scene.cloud.requests().iter().all(|request| request.status.is_some_and(|status| status < 300)));
    let base = scene.cloud.url().join("v2.0").unwrap().to_string();
    let endpoints = [("network", base.as_str()), ("compute", scene.cloud.url().as_str())]
        .map(|(service, url)| Endpoint { url: url.to_owned(), ..endpoint(&scene, service, "public", "R") });
    scene.cloud.set_endpoints(endpoints.to_vec());
    scene.snapshot().await.unwrap();
}
