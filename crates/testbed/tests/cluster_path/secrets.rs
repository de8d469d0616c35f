//! Whatever is secret in a run is in nothing that the run emits.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use multinic_testbed::cloud_simulator::{Provider, USER, encrypt};
use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::node::Switch;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::agreement::{wrong_in_cluster, wrong_in_config};
use crate::cloud::Cloud;
use crate::node::{Nic, Node};
use crate::programs::{Deployment, INVENTORY_TOKEN, Viola, service_account};
use crate::site::Site;
use crate::waiting::{wait, wait_until_right};

const PASSWORD: &str = "Pass/word+of=the&user 1";
const NEXT_PASSWORD: &str = "Next/word+of=the&user 2";
const APPLICATION_SECRET: &str = "secret~of/the+application=3";
const CONTRABASS_KEY: &str = "key/of+contrabass=of&32+bytes==4";
const BROKER_PASSWORD: &str = "Broker/word+of=rabbit&5";
const CONTRABASS_PASSWORD: &str = "Admin/word+of=contrabass&6";
const VIOLA_TOKEN: &str = "token/of+the=viola~7";
const OTHER_VIOLA_TOKEN: &str = "another/token+of=viola~8";

/// A secret, under the name by which a failure may speak of it, in every form in which it could be told.
struct Secret {
    name: &'static str,
    forms: Vec<String>,
}

impl Secret {
    fn new(name: &'static str, text: &str) -> Self {
        let escaped = serde_json::to_string(text).unwrap();
        let form = url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let base64 = [BASE64_STANDARD.encode(text), BASE64_URL_SAFE.encode(text)];
        let base64 = base64.map(|encoded| encoded.trim_end_matches('=').to_owned());
        let mut forms = vec![
            text.to_owned(),
            escaped.trim_matches('"').to_owned(),
            utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
            form,
        ];
        forms.extend(base64);
        Self { name, forms }
    }
}

/// All the files of a folder that a program writes, as text.
fn files(folder: &Path, endings: &[&str]) -> Vec<(String, String)> {
    let all = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let ours = all.filter(|path| endings.iter().any(|ending| path.to_string_lossy().contains(ending)));
    ours.map(|path| {
        (path.display().to_string(), String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned())
    })
    .collect()
}

/// Every row of every table.
fn content(database: &MariaDb, name: &str) -> Vec<(String, String)> {
    let tables = database.sql(name, "SHOW TABLES").unwrap();
    let read =
        |table: &str| (table.to_owned(), database.sql(name, &format!("SELECT * FROM `{table}`")).unwrap());
    let read: Vec<_> = tables.lines().map(read).collect();
    assert!(read.iter().any(|(_, rows)| rows.contains("multinic0")), "{read:?}");
    read
}

#[test]
fn no_secret_of_a_run_is_in_anything_that_the_run_emits() {
    if !ControlPlane::installed() || !MariaDb::installed() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let database = MariaDb::start().unwrap();
    database.create_database("multinic").unwrap();
    let (cloud, switch) = (Cloud::new(), Switch::new().unwrap());
    let [home, target, behind] = [(); 3].map(|()| Site::new(plane));
    let (user, domain, _) = USER;
    let simulator = &cloud.simulator;
    simulator.set_password(user, PASSWORD).unwrap();
    let project = simulator.project().clone();
    simulator.add_application_credential("app-id", APPLICATION_SECRET, user, &project).unwrap();
    simulator
        .add_user("admin", CONTRABASS_PASSWORD, &project, multinic_testbed::cloud_simulator::Role::Admin)
        .unwrap();
    let provider = Provider {
        keystone: simulator.url().to_string(),
        admin: "admin".to_owned(),
        domain: domain.to_owned(),
        encrypted_password: encrypt(CONTRABASS_KEY, CONTRABASS_PASSWORD, [7; 16]).unwrap(),
        encrypted_broker_password: encrypt(CONTRABASS_KEY, BROKER_PASSWORD, [8; 16]).unwrap(),
    };
    simulator.set_provider("cloud-1", &provider);

    // Each cluster is reached by a token.
    let to_target = service_account(&target, plane, None, "multinic-controller");
    let to_behind = service_account(&behind, plane, None, "multinic-viola");
    let folder = tempfile::tempdir().unwrap();
    let callers = format!("{VIOLA_TOKEN}\n{OTHER_VIOLA_TOKEN}\n");
    let viola = Viola::start(folder.path(), &[("behind", &behind, &to_behind)], &callers);
    home.write_secret("cloud", &[("password", PASSWORD)]);
    home.write_secret("application", &[("secret", APPLICATION_SECRET)]);
    home.write_secret("contrabass", &[("key", CONTRABASS_KEY)]);
    home.write_secret("viola", &[("token", OTHER_VIOLA_TOKEN)]);
    home.write_secret("target", &[("kubeconfig", &to_target.kubeconfig())]);

    let mut deployment = Deployment::new(&home, plane, None);
    deployment.set("DATABASE_URL", &database.url("multinic"));
    deployment.set("VIOLA_ENDPOINT", &viola.url());
    deployment.set("VIOLA_TOKEN", VIOLA_TOKEN);
    deployment.set("CONTRABASS_ENDPOINT", simulator.url().as_str());
    let controller_token = fs::read_to_string(deployment.folder.path().join("kubeconfig")).unwrap();
    let controller_token =
        controller_token.split("token: ").nth(1).unwrap().lines().next().unwrap().to_owned();

    // Four configurations, each with its own ways to be somebody, each with a node.
    let names = ["password", "application", "contrabass", "clouds"];
    let servers = names.map(|name| simulator.add_server(&format!("{}-{name}", home.namespace)));
    let base = |place: usize| cloud.spec_without_credentials(&[&servers[place]]);
    let mut password = cloud.spec(&[&servers[0]]);
    password["credentials"].as_object_mut().unwrap().remove("password");
    password["secrets"] = json!({"passwordSecretRef": {"name": "cloud", "key": "password"}});
    let mut application = base(1);
    application["credentials"] = json!({
        "authURL": simulator.url().as_str(), "applicationCredentialID": "app-id", "k8sProviderID": "provider-2",
    });
    application["secrets"] =
        json!({"applicationCredentialSecretRef": {"name": "application", "key": "secret"}});
    application["target"] = json!({
        "namespace": target.namespace, "kubeconfigSecretRef": {"name": "target", "key": "kubeconfig"},
    });
    let mut contrabass = base(2);
    contrabass["credentials"] = json!({
        "openstackProviderID": "cloud-1", "k8sProviderID": "behind", "projectID": project.as_str(),
    });
    contrabass["secrets"] = json!({"contrabassEncryptKeySecretRef": {"name": "contrabass", "key": "key"}});
    contrabass["sinks"] = json!(["viola"]);
    let mut clouds = base(3);
    clouds["credentials"] = json!({"cloud": "mine", "k8sProviderID": "behind"});
    clouds["secrets"] = json!({
        "cloudsSecretRef": {"name": "clouds", "key": "clouds.yaml"},
        "violaTokenSecretRef": {"name": "viola", "key": "token"},
    });
    clouds["sinks"] = json!(["viola"]);
    let file = format!(
        "clouds:\n  mine:\n    auth:\n      auth_url: {}\n      username: {user}\n      password: {PASSWORD:?}\n      \
         user_domain_name: {domain}\n      project_id: {}\n",
        simulator.url(),
        project.as_str(),
    );
    home.write_secret("clouds", &[("clouds.yaml", &file)]);

    let sites = [&home, &target, &behind, &behind];
    let mut nodes = Vec::new();
    for ((name, server), site) in names.iter().zip(&servers).zip(sites) {
        let nic = Nic::new(&cloud.attach(server), 0);
        let mut node = Node::new(site, plane, None, &switch, &format!("{}-{name}", home.namespace), server);
        node.plug(&switch, &nic);
        node.start_agent();
        nodes.push((node, nic));
    }
    let controller = deployment.start("controller");
    for (name, spec) in names.iter().zip([&password, &application, &contrabass, &clouds]) {
        home.apply_config(name, spec);
    }
    let all_right = || {
        for ((name, (node, nic)), site) in names.iter().zip(&nodes).zip(sites) {
            let wrong = || wrong_in_cluster(site, node, &[nic]).or_else(|| wrong_in_config(&home, name, 1));
            wait_until_right(wrong, || {
                format!("{}\n{}", controller.last_lines(), viola.program.last_lines(10))
            });
        }
    };
    all_right();

    // What goes wrong is told, and that must not hold the cause's secrets either: a password that is not right any more,
    // a token that is refused, and Secrets whose content is nothing that can be read.
    let reason = |name: &str, reason: &str| {
        let what = || {
            format!("{reason} of {name}: {:?}\n{}", home.condition(name, "Ready"), controller.last_lines())
        };
        wait(what, || home.condition(name, "Ready")[1] == reason);
    };
    simulator.set_password(user, NEXT_PASSWORD).unwrap();
    simulator.expire_tokens();
    reason("password", "KeystoneError");
    home.write_secret("cloud", &[("password", NEXT_PASSWORD)]);
    home.write_secret("clouds", &[("clouds.yaml", &format!("clouds: [{PASSWORD:?}, {NEXT_PASSWORD:?}"))]);
    reason("clouds", "ConfigError");
    home.write_secret("contrabass", &[("key", &format!("{CONTRABASS_KEY}-too-long"))]);
    reason("contrabass", "ConfigError");
    // A key that is one, but another: what Contrabass hands out cannot be opened.
    home.write_secret("contrabass", &[("key", &CONTRABASS_KEY.to_uppercase())]);
    simulator.expire_tokens();
    simulator.set_password("admin", "changed meanwhile").unwrap();
    reason("contrabass", "ContrabassError");
    simulator.set_password("admin", CONTRABASS_PASSWORD).unwrap();
    home.write_secret("target", &[("kubeconfig", &format!("{}: [", to_target.kubeconfig()))]);
    home.write_secret("application", &[("secret", &format!("{APPLICATION_SECRET}?"))]);
    simulator.expire_tokens();
    reason("application", "KeystoneError");
    fs::write(folder.path().join("callers"), "nobody").unwrap();
    home.write_secret("contrabass", &[("key", CONTRABASS_KEY)]);
    home.write_secret("clouds", &[("clouds.yaml", &file.replace(PASSWORD, NEXT_PASSWORD))]);
    cloud.attach(&servers[2]);
    cloud.attach(&servers[3]);
    reason("contrabass", "ViolaPostError");
    reason("clouds", "ViolaPostError");

    let mut secrets = vec![
        Secret::new("the password", PASSWORD),
        Secret::new("the next password", NEXT_PASSWORD),
        Secret::new("the application credential's secret", APPLICATION_SECRET),
        Secret::new("Contrabass' key", CONTRABASS_KEY),
        Secret::new("Contrabass' other key", &CONTRABASS_KEY.to_uppercase()),
        // All of them begin so.
        Secret::new("a token of Keystone's", "gAAAAAB"),
        Secret::new("Contrabass' password", CONTRABASS_PASSWORD),
        Secret::new("Contrabass' password as it is handed out", &provider.encrypted_password),
        Secret::new("the broker's password", BROKER_PASSWORD),
        Secret::new("Viola's token", VIOLA_TOKEN),
        Secret::new("Viola's other token", OTHER_VIOLA_TOKEN),
        Secret::new("the inventory's token", INVENTORY_TOKEN),
        Secret::new("the database's password", database.password()),
        Secret::new("the controller's own token", &controller_token),
    ];
    for (name, access) in [("the target's token", &to_target), ("Viola's cluster's token", &to_behind)] {
        secrets.push(Secret::new(name, access.token().unwrap().expose_secret()));
    }

    secrets.extend(nodes.iter().map(|(node, _)| Secret::new("an agent's token", &node.token())));

    let mut emitted = files(deployment.folder.path(), &[".log", ".db"]);
    emitted.extend(files(folder.path(), &[".log"]));
    emitted.extend(content(&database, "multinic"));
    for page in ["/metrics", "/", "/readyz"] {
        emitted.push((format!("the controller's {page}"), controller.get(page).1));
        emitted.push((format!("Viola's {page}"), viola.get(page).1));
        for (node, _) in &nodes {
            emitted.push((format!("{page} of the agent of {}", node.name), node.get(page).1));
        }
    }
    for path in ["/v1/inventory/node-configs", "/v1/interfaces/providers", "/openapi.json"] {
        emitted.push((path.to_owned(), controller.inventory(path).1));
    }
    for (node, _) in &nodes {
        emitted.push((format!("the log of the agent of {}", node.name), node.log()));
        emitted.push((format!("the Node {}", node.name), home.node(&node.name).to_string()));
    }
    for site in [&home, &target, &behind] {
        for object in site.configs().into_iter().chain(site.objects()).chain(site.events()) {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            emitted.push((name, Value::to_string(&object)));
        }
    }
    // That something was emitted at all, and errors too.
    let total: usize = emitted.iter().map(|(_, text)| text.len()).sum();
    assert!(emitted.len() > 40 && total > 100_000, "{} texts, {total} bytes", emitted.len());
    let mut found = Vec::new();
    for (place, text) in &emitted {
        for Secret { name, forms } in &secrets {
            if let Some(at) = forms.iter().find_map(|form| text.find(form.as_str())) {
                let line = text[..at].lines().count();
                found.push(format!("{name} is in {place}, line {line}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // A look that finds nothing finds what is there.
    let kubeconfig = fs::read_to_string(deployment.folder.path().join("kubeconfig")).unwrap();
    assert!(secrets.iter().any(|secret| secret.forms.iter().any(|form| kubeconfig.contains(form))));
}
