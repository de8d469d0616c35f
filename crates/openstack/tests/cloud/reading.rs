//! Whether a read would come to the same is told without reading.

use multinic_core::config::VmRef;
use multinic_testbed::cloud_simulator::Fault;
use serde_json::json;

use crate::{Scene, scene, select};

#[tokio::test]
async fn what_did_not_change_comes_again_for_as_many_requests_as_a_read() {
    let scene = scene().await;
    let client = scene.client();
    // One server is not there, which is an answer too.
    let mut selection = scene.selection();
    selection.vms.push(VmRef::Id("5e000000-0000-4000-8000-00000000dead".into()));
    for limit in [None, Some(1)] {
        scene.cloud.set_page_limit(limit);
        scene.cloud.forget_requests();
        let (snapshot, reading) = client.read(&selection).await.unwrap();
        assert_eq!((snapshot.ports.len(), snapshot.unresolved.len()), (2, 1));
        let asked = scene.cloud.requests().iter().filter(|it| it.method == "GET").count();
        scene.cloud.forget_requests();
        for _ in 0..2 {
            assert!(client.comes_again(&selection, &reading).await.unwrap());
        }
        assert_eq!(scene.cloud.requests().len(), 2 * asked);
    }
}

#[tokio::test]
async fn every_change_is_another_answer() {
    let changes: [fn(&Scene); 9] = [
        |it| drop(it.cloud.attach(&it.servers[0], &[&it.v4]).unwrap()),
        |it| it.cloud.delete_port(&it.ports[1].port).unwrap(),
        |it| it.cloud.detach(&it.ports[0].port).unwrap(),
        |it| it.cloud.set_status(&it.ports[0].port, "DOWN").unwrap(),
        |it| {
            it.cloud
                .distort(it.ports[0].port.as_str(), "mac_address", Some(json!("fa:16:3e:0:0:1")))
                .unwrap();
        },
        |it| it.cloud.set_mtu(&it.network, Some(1400)).unwrap(),
        |it| it.cloud.distort(it.v6.as_str(), "cidr", Some(json!("2001:db8::/48"))).unwrap(),
        |it| it.cloud.rename_server(&it.servers[1], "another").unwrap(),
        |it| it.cloud.delete_server(&it.servers[1]).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let scene = scene().await;
        let client = scene.client();
        let (_, reading) = client.read(&scene.selection()).await.unwrap();
        assert!(client.comes_again(&scene.selection(), &reading).await.unwrap());
        change(&scene);
        assert!(!client.comes_again(&scene.selection(), &reading).await.unwrap(), "change {number}");
    }
}

#[tokio::test]
async fn a_fault_is_another_answer_and_goes_with_it() {
    for fault in
        [Fault::Empty, Fault::Truncated, Fault::Html(200), Fault::Reset, Fault::DropQuery, Fault::Lacking(1)]
    {
        let scene = scene().await;
        let client = scene.client();
        let (_, reading) = client.read(&scene.selection()).await.unwrap();
        scene.cloud.inject_always("/v2.0/ports", fault.clone());
        // A lost query shows more only where there is more.
        let stranger = scene.cloud.add_server("stranger");
        scene.cloud.attach(&stranger, &[&scene.v4]).unwrap();
        assert!(!client.comes_again(&scene.selection(), &reading).await.unwrap(), "{fault:?}");
        scene.cloud.clear_faults();
        assert!(client.comes_again(&scene.selection(), &reading).await.unwrap(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_read_for_another_selection_says_nothing() {
    let scene = scene().await;
    let client = scene.client();
    let (_, reading) = client.read(&scene.selection()).await.unwrap();
    scene.cloud.forget_requests();
    let other = select(scene.selection().vms, &[&scene.v6]);
    assert!(!client.comes_again(&other, &reading).await.unwrap());
    assert_eq!(scene.cloud.requests().len(), 0);
}
