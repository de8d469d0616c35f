//! What users of the older programs have: the manifests that the API server takes are carried out, too.

use std::collections::BTreeMap;
use std::path::Path;

use multinic_testbed::cloud_simulator::{Provider, Role, encrypt};
use serde_json::Value;

use crate::bench::{Bench, run, until};
use crate::sinks::{Viola, objects};

const PROJECT: &str = "5f0c8f6a1c3d4e5b9a7d2c4e6f8a0b1c";
const PROVIDER: &str = "66da2e07-a09d-4797-b9c6-75a2ff91381e";
const VMS: [&str; 2] = ["3f2a1b0c-9d8e-4f7a-8b6c-5d4e3f2a1b0c", "8c7d6e5f-4a3b-4c2d-9e1f-0a9b8c7d6e5f"];
const SUBNETS: [&str; 2] = ["7a3b5c1e-5d0f-4a64-9a38-6f3c1d2e4b50", "c4d5e6f7-0819-4a2b-8c3d-4e5f60718293"];
const KEY: &str = "0123456789abcdef";
const PASSWORD: &str = "not-a-real-one";

/// A cloud that has what the manifests name, but for ids and addresses: those are put into the manifests.
#[tokio::test]
async fn manifests_of_the_older_programs_are_carried_out() {
    let Some(bench) = Bench::new().await else { return };
    let cloud = &bench.cloud;
    let base = cloud.url().as_str().trim_end_matches('/').to_owned();
    let network = cloud.add_network("storage", Some(1450));
    let storage = cloud.add_subnet(&network, "storage-v4", "10.30.0.0/24".parse().unwrap()).unwrap();
    let servers = ["worker-1", "worker-2"].map(|name| {
        let server = cloud.add_server(name);
        cloud.attach(&server, &[&storage]).unwrap();
        server
    });
    cloud.add_user("admin", PASSWORD, cloud.project(), Role::Admin).unwrap();
    let encrypted = |text: &str| encrypt(KEY, text, [7; 16]).unwrap();
    let provider = Provider {
        keystone: base.clone(),
        admin: "admin".to_owned(),
        domain: "Default".to_owned(),
        encrypted_password: encrypted(PASSWORD),
        encrypted_broker_password: encrypted("broker-password"),
    };
    cloud.set_provider(PROVIDER, &provider);
    bench.write_secret("contrabass", &[("CONTRABASS_ENCRYPT_KEY", KEY)]).await;
    let (viola, viola_url) = Viola::start().await;
    let (mut setup, registry) = bench.setup(&["--leader-elect=false"]);
    setup.defaults.contrabass_endpoint = Some(base.parse().unwrap());
    setup.defaults.contrabass_key = Some(KEY.into());
    let controller = run(setup, registry).await;
    let manifest = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/manifests");
        let mut text = std::fs::read_to_string(folder.join(name)).unwrap();
        for (theirs, ours) in [
            ("http://keystone.example:5000", base.as_str()),
            ("http://neutron.example:9696", &base),
            ("http://nova.example:8774", &base),
            ("https://contrabass.example:8443/base", &base),
            ("http://[fd00::10]:9696", &base),
            ("http://viola.example", &viola_url),
            (PROJECT, cloud.project().as_str()),
            (VMS[0], servers[0].as_str()),
            (VMS[1], servers[1].as_str()),
            (SUBNETS[0], storage.as_str()),
            (SUBNETS[1], storage.as_str()),
            // Processors may be busy.
            ("500ms", "30s"),
        ] {
            text = text.replace(theirs, ours);
        }
        serde_saphyr::from_str::<Value>(&text).unwrap()["spec"].clone()
    };
    for (file, count) in [
        ("config-1a-minimal.yaml", 1),
        ("config-1a-full.yaml", 1),
        ("config-1b-minimal.yaml", 1),
        ("config-1b-full.yaml", 2),
        ("config-2-minimal.yaml", 1),
        ("config-2-first.yaml", 1),
        ("config-2-alias.yaml", 1),
        ("config-2-full.yaml", 2),
    ] {
        let spec = manifest(file);
        // The first of them has a password of blanks.
        let password = spec["credentials"]["password"].as_str().unwrap_or(PASSWORD);
        cloud.set_password("admin", password).unwrap();
        bench.apply("a", spec).await;
        let status = bench.until_ready("a").await;
        assert_eq!((status.interfaces, bench.count().await), (Some(count), count as usize), "{file}");
        // The last of them names a Viola.
        if file != "config-2-full.yaml" {
            let first = objects(&bench).get("worker-1").await.unwrap().spec.interfaces;
            assert_eq!(first[0].mtu, Some(1450), "{file}");
            assert!(viola.has().is_empty());
        }
        bench.delete("a").await;
        bench.until_gone("a").await;
        until("its NICs are gone", async || bench.count().await == 0).await;
    }
    let provider = "8b1e4d0a-2f6c-4f3e-9a57-1c2d3e4f5a6b".to_owned();
    let told = ["worker-1", "worker-2"].map(|node| ((provider.clone(), node.to_owned()), 0));
    assert_eq!(viola.has(), BTreeMap::from(told), "it was told of both, and of their end");
    controller.stop().await;
}
