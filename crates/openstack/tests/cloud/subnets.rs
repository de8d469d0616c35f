//! Subnets by id and by name.

use multinic_core::config::{Selection, SubnetSelector};
use multinic_openstack::{CloudError, ReadError};
use multinic_testbed::cloud_simulator::{Fault, Role};

use crate::{Scene, client, scene};

const SUBNETS: &str = "/v2.0/subnets";

fn by_name(scene: &Scene, name: &str) -> Selection {
    Selection { subnets: SubnetSelector::Name(name.to_owned()), ..scene.selection() }
}

#[tokio::test]
async fn the_users_order_is_kept() {
    let scene = scene().await;
    let ids = vec![scene.v6.clone(), scene.v4.clone()];
    let selection = Selection { subnets: SubnetSelector::Ids(ids.clone()), ..scene.selection() };
    assert_eq!(scene.client().snapshot(&selection).await.unwrap().selected, ids);
}

#[tokio::test]
async fn an_id_that_does_not_exist_is_named() {
    let scene = scene().await;
    let gone = "00000000-0000-0000-0000-000000000000";
    let subnets = SubnetSelector::Ids(vec![scene.v4.clone(), gone.into()]);
    let error = scene.client().snapshot(&Selection { subnets, ..scene.selection() }).await.unwrap_err();
    assert_eq!(error, CloudError::SubnetNotFound(gone.to_owned()));
    assert_eq!((error.reason(), error.retry()), ("SubnetNotFound", false));
}

#[tokio::test]
async fn a_list_that_lacks_a_subnet_is_no_proof_that_it_does_not_exist() {
    let scene = scene().await;
    scene.cloud.inject(SUBNETS, Fault::Empty);
    assert_eq!(scene.snapshot().await.unwrap().selected, std::slice::from_ref(&scene.v4));
}

#[tokio::test]
async fn a_404_of_somebody_else_is_no_proof_either() {
    let scene = scene().await;
    let gone = SubnetSelector::Ids(vec!["00000000-0000-0000-0000-000000000000".into()]);
    let selection = Selection { subnets: gone, ..scene.selection() };
    scene.cloud.inject(&format!("{SUBNETS}/"), Fault::Html(404));
    let error = scene.client().snapshot(&selection).await.unwrap_err();
    assert_eq!(error.reason(), "NeutronSubnetError", "{error}");
    assert!(error.to_string().contains("HTML page"), "{error}");
}

#[tokio::test]
async fn a_name_is_compared_exactly() {
    let scene = scene().await;
    let namesake =
        scene.cloud.add_subnet(&scene.network, "TENANT-v4", "10.9.0.0/24".parse().unwrap()).unwrap();
    let snapshot = scene.client().snapshot(&by_name(&scene, "TENANT-v4")).await.unwrap();
    assert_eq!(snapshot.selected, [namesake]);
    let error = scene.client().snapshot(&by_name(&scene, "tenant-V4")).await.unwrap_err();
    assert_eq!(error, CloudError::SubnetNotFound("tenant-V4".to_owned()));
}

#[tokio::test]
async fn a_name_that_several_have_lists_them() {
    let scene = scene().await;
    let other = scene.cloud.add_subnet(&scene.network, "tenant-v4", "10.9.0.0/24".parse().unwrap()).unwrap();
    let error = scene.client().snapshot(&by_name(&scene, "tenant-v4")).await.unwrap_err();
    assert_eq!((error.reason(), error.retry()), ("SubnetNotUnique", false));
    for id in [&scene.v4, &other] {
        assert!(error.to_string().contains(id.as_str()), "{error}");
    }
}

#[tokio::test]
async fn only_shared_namesakes_of_other_projects_count_for_an_administrator() {
    let scene = scene().await;
    scene.cloud.add_user("root", "pw", scene.cloud.project(), Role::Admin).unwrap();
    let mut access = scene.cloud.access();
    crate::token::login(&mut access, "root", "pw");
    let other = scene.cloud.add_project("other");
    let add = |shared| {
        let network = scene.cloud.add_network_of(&other, "theirs", None, shared).unwrap();
        scene.cloud.add_subnet(&network, "tenant-v4", "10.9.0.0/24".parse().unwrap()).unwrap()
    };
    add(false);
    let snapshot = client(&access).snapshot(&by_name(&scene, "tenant-v4")).await.unwrap();
    assert_eq!(snapshot.selected, std::slice::from_ref(&scene.v4));
    let shared = add(true);
    let error = client(&access).snapshot(&by_name(&scene, "tenant-v4")).await.unwrap_err();
    assert!(error.to_string().contains(shared.as_str()), "{error}");
}

#[tokio::test]
async fn a_lost_query_for_a_name_is_an_error() {
    let scene = scene().await;
    scene.cloud.inject(SUBNETS, Fault::DropQuery);
    let error = scene.client().snapshot(&by_name(&scene, "nothing-like-it")).await.unwrap_err();
    assert!(matches!(error, CloudError::Subnets(ReadError::Unasked { .. })), "{error}");
}

#[tokio::test]
async fn a_lost_query_for_ids_is_an_error() {
    let scene = scene().await;
    for path in [SUBNETS, "/v2.0/networks"] {
        scene.cloud.add_network("another", None);
        scene.cloud.inject(path, Fault::DropQuery);
        let error = scene.snapshot().await.unwrap_err();
        assert!(error.to_string().contains("was not asked for"), "{error}");
    }
}

#[tokio::test]
async fn networks_that_cannot_be_read_are_an_error_and_an_unknown_mtu_is_none() {
    let scene = scene().await;
    scene.cloud.inject_always("/v2.0/networks", Fault::Html(500));
    assert_eq!(scene.snapshot().await.unwrap_err().reason(), "NeutronNetworkError");
    scene.cloud.clear_faults();
    for mtu in [None, Some(0)] {
        scene.cloud.set_mtu(&scene.network, mtu).unwrap();
        assert_eq!(scene.snapshot().await.unwrap().networks[&scene.network].mtu, None);
    }
}
