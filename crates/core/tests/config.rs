//! What users write, in every shape that is in use, to the value that the controller works with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::time::Duration;

use multinic_core::config::{
    Cadence, ConfigErrors, Credentials, Defaults, Manifest, OpenstackConfig, StatusFilter, SubnetSelector,
    VmRef, parse,
};
use secrecy::ExposeSecret;

const V1A: &str = "
apiVersion: multinic.example.com/v1alpha1
kind: OpenstackConfig
metadata:
  name: openstackconfig-sample
  namespace: multinic-system
spec:
  subnetName: multinic-subnet
  vmName: worker-1
  credentials:
    authURL: http://keystone.example:5000/v3
    username: admin
    password: ' pass word '
    projectID: 0123456789abcdef0123456789abcdef
    domainName: Default
";

const V1B: &str = "
apiVersion: multinic.example.com/v1alpha1
kind: OpenstackConfig
metadata:
  name: two-vms
spec:
  vmNames: [worker-1, worker-2]
  subnetName: multinic-subnet
  credentials:
    authURL: http://keystone.example:5000
    username: admin
    password: secret-password
    projectID: project
    domainName: Default
    networkEndpoint: http://neutron.example:9696
    computeEndpoint: http://nova.example:8774/v2.1
status:
  status: Completed
  vmNetworkInfos: [{vmName: worker-1, ipAddress: 10.0.0.1}]
";

const V2: &str = "
apiVersion: multinic.example.com/v1alpha1
kind: OpenstackConfig
metadata:
  name: fleet
  namespace: prod
  uid: 8c1f
  resourceVersion: '77'
  creationTimestamp: '2026-01-01T00:00:00Z'
  labels: {app.kubernetes.io/name: multinic}
  annotations:
    multinic.io/confirm-removals: 0011aabbccdd, ffee00112233
    kubectl.kubernetes.io/last-applied-configuration: |
      {\"spec\":{\"settings\":{\"contrabassEncryptKey\":\"0123456789abcdef\"}}}
spec:
  subnetIDs: [sub-2, ' sub-1 ', sub-2, '']
  subnetID: ignored
  subnetName: ignored too
  vmNames:
    - 11111111-2222-3333-4444-AAAAAAAAAAAA
    - ' 11111111-2222-3333-4444-aaaaaaaaaaaa'
    - 55555555-2222-3333-4444-bbbbbbbbbbbb
  credentials:
    openstackProviderID: provider-1
    k8sProviderID: cluster-1
    projectID: project-1
  settings:
    contrabassEndpoint: https://contrabass.example/
    contrabassEncryptKey: ' 0123456789abcdef '
    contrabassTimeout: 10s
    contrabassInsecureTLS: true
    violaEndpoint: http://viola.example
    violaTimeout: 5s
    violaInsecureTLS: false
    openstackTimeout: 1m30s
    openstackInsecureTLS: true
    openstackNeutronEndpoint: http://neutron.example:9696/v2.0
    openstackNovaEndpoint: http://nova.example:8774
    openstackEndpointInterface: internal
    openstackEndpointRegion: RegionTwo
    openstackNodeNameMetadataKey: node-name
    openstackPortAllowedStatuses: [active, ' build ']
    downPortFastRetryMax: 7
    pollFastInterval: 10s
    pollSlowInterval: 5m
    pollErrorInterval: 15s
    pollFastWindow: 1h
status:
  conditions: []
";

fn manifest(yaml: &str) -> Manifest {
    serde_saphyr::from_str(yaml).unwrap()
}

fn read_with(yaml: &str, defaults: &Defaults) -> Result<OpenstackConfig, ConfigErrors> {
    parse(&manifest(yaml), defaults)
}

fn read(yaml: &str) -> OpenstackConfig {
    read_with(yaml, &Defaults::default()).unwrap()
}

/// The text with one part put in place of another, which must be there.
fn but(yaml: &str, part: &str, instead: &str) -> String {
    assert!(yaml.contains(part), "{part}");
    yaml.replacen(part, instead, 1)
}

/// V1b with these settings.
fn with_settings(settings: &str) -> String {
    but(V1B, "  subnetName:", &format!("  settings: {{{settings}}}\n  subnetName:"))
}

/// V1b with these further lines of the spec.
fn with_spec(lines: &str) -> String {
    but(V1B, "  subnetName:", &format!("  {lines}  subnetName:"))
}

fn wrong_fields(yaml: &str) -> Vec<String> {
    let errors = read_with(yaml, &Defaults::default()).unwrap_err();
    errors.0.into_iter().map(|error| error.field).collect()
}

fn names(config: &OpenstackConfig) -> Vec<String> {
    let vms = config.selection.vms.iter();
    vms.map(|vm| match vm {
        VmRef::Id(id) => format!("id {id}"),
        VmRef::Name(name) => format!("name {name}"),
    })
    .collect()
}

#[test]
fn the_first_shape_with_one_vm_by_name() {
    let config = read(V1A);
    assert_eq!(config.key.to_string(), "multinic-system/openstackconfig-sample");
    assert_eq!(names(&config), ["name worker-1"]);
    assert_eq!(config.selection.subnets, SubnetSelector::Name("multinic-subnet".to_owned()));
    assert_eq!(config.cloud.project.unwrap().as_str(), "0123456789abcdef0123456789abcdef");
    assert_eq!(config.k8s_provider_id, None);
    let Credentials::Password { auth_url, username, domain, password } = config.cloud.credentials else {
        panic!("another kind of credentials");
    };
    assert_eq!(auth_url.as_str(), "http://keystone.example:5000/v3");
    assert_eq!((username.as_str(), domain.as_str()), ("admin", "Default"));
    assert_eq!(password.expose_secret(), " pass word ", "a password's blanks are its own");
}

#[test]
fn the_second_shape_with_several_vms_and_endpoints_beside_the_credentials() {
    let config = read(V1B);
    assert_eq!(config.key.to_string(), "default/two-vms");
    assert_eq!(names(&config), ["name worker-1", "name worker-2"]);
    assert_eq!(config.cloud.endpoints.neutron.unwrap().as_str(), "http://neutron.example:9696/");
    assert_eq!(config.cloud.endpoints.nova.unwrap().as_str(), "http://nova.example:8774/v2.1");
}

#[test]
fn the_third_shape_with_ids_providers_and_every_setting() {
    let config = read(V2);
    let vms = ["id 11111111-2222-3333-4444-aaaaaaaaaaaa", "id 55555555-2222-3333-4444-bbbbbbbbbbbb"];
    assert_eq!(names(&config), vms);
    assert_eq!(config.selection.subnets, SubnetSelector::Ids(vec!["sub-2".into(), "sub-1".into()]));
    assert_eq!(
        config.selection.statuses,
        StatusFilter::Only(["ACTIVE".to_owned(), "BUILD".to_owned()].into())
    );
    assert_eq!(config.selection.node_name_key.as_deref(), Some("node-name"));
    assert_eq!(config.k8s_provider_id.as_deref(), Some("cluster-1"));
    assert_eq!(config.confirmed_removals.len(), 2);
    assert!(config.confirmed_removals.contains("ffee00112233"));
    let seconds = Duration::from_secs;
    assert_eq!(
        config.cadence,
        Cadence {
            fast: seconds(10),
            slow: seconds(300),
            error: seconds(15),
            window: seconds(3600),
            down_retries: 7
        }
    );
    assert_eq!(config.cloud.timeout, seconds(90));
    assert!(config.cloud.tls.insecure);
    assert_eq!(config.cloud.endpoints.interface, "internal");
    assert_eq!(config.cloud.endpoints.region.as_deref(), Some("RegionTwo"));
    let Credentials::Provider { contrabass, provider_id, key, timeout, tls } = config.cloud.credentials
    else {
        panic!("another kind of credentials");
    };
    assert_eq!(contrabass.as_str(), "https://contrabass.example/");
    assert_eq!(provider_id, "provider-1");
    assert_eq!(key.expose_secret(), "0123456789abcdef");
    assert_eq!((timeout, tls.insecure), (seconds(10), true));
}

#[test]
fn an_application_credential_needs_no_project() {
    let start = &V1B[..V1B.find("    username").unwrap()];
    let yaml =
        format!("{start}    applicationCredentialID: app-1\n    applicationCredentialSecret: app-secret\n");
    let config = read(&yaml);
    assert_eq!(config.cloud.project, None);
    assert!(matches!(config.cloud.credentials, Credentials::ApplicationCredential { .. }));
    assert_eq!(
        wrong_fields(&yaml.replace("applicationCredentialSecret: app-secret", "")),
        ["spec.credentials.applicationCredentialSecret"]
    );
}

#[test]
fn the_provider_may_be_called_as_the_older_papers_call_it() {
    let config = read(&but(V2, "openstackProviderID", "providerID"));
    assert!(matches!(config.cloud.credentials, Credentials::Provider { .. }));
}

#[test]
fn one_vm_and_several_vms_add_up_without_repetition() {
    let config = read(&but(V1B, "  subnetName:", "  vmName: worker-2\n  subnetName:"));
    assert_eq!(names(&config), ["name worker-1", "name worker-2"]);
    let config = read(&but(V1B, "[worker-1, worker-2]", "[' worker-1 ', '', worker-1]"));
    assert_eq!(names(&config), ["name worker-1"]);
}

#[test]
fn subnet_ids_win_over_a_subnet_id_which_wins_over_a_name() {
    let id = read(&but(V2, "subnetIDs: [sub-2, ' sub-1 ', sub-2, '']", "subnetIDs: [' ']"));
    assert_eq!(id.selection.subnets, SubnetSelector::Ids(vec!["ignored".into()]));
    let none = but(V2, "subnetIDs: [sub-2, ' sub-1 ', sub-2, '']", "subnetIDs: []");
    let name = read(&but(&none, "subnetID: ignored", "subnetID: ''"));
    assert_eq!(name.selection.subnets, SubnetSelector::Name("ignored too".to_owned()));
}

#[test]
fn empty_fields_are_fields_left_out() {
    let yaml = but(V1B, "  vmNames: [worker-1, worker-2]", "  vmName: worker-1\n  vmNames:\n  subnetIDs:");
    assert_eq!(
        names(&read(&but(&yaml, "  subnetName:", "  settings:\n  secrets:\n  subnetName:"))),
        ["name worker-1"]
    );
    let yaml = but(V2, "namespace: prod", "namespace: ''");
    assert_eq!(read(&yaml).key.to_string(), "default/fleet");
    assert_eq!(manifest(&yaml).metadata.key(), read(&yaml).key);
}

fn controllers() -> Defaults {
    Defaults {
        contrabass_endpoint: Some("http://default-contrabass".parse().unwrap()),
        contrabass_key: Some("fedcba9876543210".into()),
        contrabass_timeout: Some(Duration::from_secs(3)),
        contrabass_insecure: true,
        openstack_timeout: Some(Duration::from_secs(4)),
        openstack_insecure: true,
        openstack_ca_file: Some("/ca.pem".into()),
        auth_url: Some("http://default-keystone".parse().unwrap()),
        neutron_endpoint: Some("http://default-neutron".parse().unwrap()),
        nova_endpoint: Some("http://default-nova".parse().unwrap()),
        endpoint_interface: Some("admin".to_owned()),
        endpoint_region: Some("RegionOne".to_owned()),
        node_name_key: Some("default-key".to_owned()),
        port_statuses: Some(vec!["*".to_owned()]),
        cadence: Cadence { fast: Duration::from_secs(1), down_retries: 2, ..Cadence::default() },
    }
}

/// A configuration that says no more than it must.
fn bare(credentials: &str) -> String {
    format!(
        "
apiVersion: multinic.example.com/v1alpha1
kind: OpenstackConfig
metadata: {{name: bare}}
spec:
  vmNames: [w]
  subnetID: s
  credentials: {credentials}
"
    )
}

#[test]
fn what_is_left_out_comes_from_the_controller_and_then_from_the_contract() {
    let bare = bare("{openstackProviderID: p, projectID: x, k8sProviderID: k}");
    let config = read_with(&bare, &controllers()).unwrap();
    assert_eq!(config.selection.statuses, StatusFilter::Any);
    assert_eq!(config.selection.node_name_key.as_deref(), Some("default-key"));
    assert_eq!(config.cloud.timeout, Duration::from_secs(4));
    assert!(config.cloud.tls.insecure);
    assert_eq!(config.cloud.tls.ca_file.unwrap().to_str(), Some("/ca.pem"));
    assert_eq!(config.cloud.endpoints.neutron.unwrap().as_str(), "http://default-neutron/");
    assert_eq!(config.cloud.endpoints.nova.unwrap().as_str(), "http://default-nova/");
    assert_eq!(config.cloud.endpoints.interface, "admin");
    assert_eq!(config.cloud.endpoints.region.as_deref(), Some("RegionOne"));
    assert_eq!((config.cadence.fast, config.cadence.down_retries), (Duration::from_secs(1), 2));
    let Credentials::Provider { contrabass, key, timeout, tls, .. } = config.cloud.credentials else {
        panic!("another kind of credentials");
    };
    assert_eq!(contrabass.as_str(), "http://default-contrabass/");
    assert_eq!(key.expose_secret(), "fedcba9876543210");
    assert_eq!((timeout, tls.insecure), (Duration::from_secs(3), true));

    let built_in = read(V1B);
    assert_eq!(built_in.cadence, Cadence::default());
    assert_eq!(built_in.cloud.timeout, Duration::from_secs(30));
    assert!(!built_in.cloud.tls.insecure);
    assert_eq!(built_in.cloud.endpoints.interface, "public");
    assert_eq!(built_in.selection.statuses, StatusFilter::Only(["ACTIVE", "DOWN"].map(str::to_owned).into()));
}

#[test]
fn what_the_configuration_says_wins_over_the_controller() {
    let config = read_with(V2, &controllers()).unwrap();
    let own = read(V2);
    assert_eq!(config.selection, own.selection);
    assert_eq!(config.cadence, own.cadence);
    assert_eq!(config.cloud.endpoints, own.cloud.endpoints);
    let off = with_settings("openstackInsecureTLS: false");
    assert!(!read_with(&off, &controllers()).unwrap().cloud.tls.insecure);
}

#[test]
fn keystone_is_that_of_the_configuration_and_else_that_of_the_controller() {
    let bare = bare("{applicationCredentialID: a, applicationCredentialSecret: s}");
    let keystone = |yaml: &str, defaults: &Defaults| match read_with(yaml, defaults)?.cloud.credentials {
        Credentials::ApplicationCredential { auth_url, .. } => Ok(auth_url.to_string()),
        _ => panic!("another kind of credentials"),
    };
    let own = but(&bare, "{appl", "{authURL: 'http://keystone/v3', appl");
    assert_eq!(keystone(&own, &controllers()).unwrap(), "http://keystone/v3");
    assert_eq!(keystone(&bare, &controllers()).unwrap(), "http://default-keystone/");
    let errors: ConfigErrors = keystone(&bare, &Defaults::default()).unwrap_err();
    let error = errors.to_string();
    assert!(error.contains("spec.credentials.authURL") && error.contains("OPENSTACK_AUTH_URL"), "{error}");
    // A wrong one is no absent one.
    let wrong = but(&bare, "{appl", "{authURL: keystone, appl");
    assert!(keystone(&wrong, &controllers()).is_err());
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let yaml = "
apiVersion: v2
kind: Openstackconfig
metadata: {name: ' '}
spec:
  vmNames: [' ']
  credentials: {username: admin, authURL: 'not a url', domainName: ' '}
  settings:
    openstackNeutronEndpoint: ftp://neutron
    openstackNovaEndpoint: nova
    openstackEndpointInterface: everywhere
    openstackTimeout: 0s
    pollFastInterval: soon
    pollSlowInterval: 5 parsecs
    pollErrorInterval: '30'
    pollFastWindow: x
";
    let expected = [
        "apiVersion",
        "kind",
        "metadata.name",
        "spec.credentials.authURL",
        "spec.credentials.domainName",
        "spec.credentials.password",
        "spec.credentials.projectID",
        "spec.settings.openstackEndpointInterface",
        "spec.settings.openstackNeutronEndpoint",
        "spec.settings.openstackNovaEndpoint",
        "spec.settings.openstackTimeout",
        "spec.settings.pollErrorInterval",
        "spec.settings.pollFastInterval",
        "spec.settings.pollFastWindow",
        "spec.settings.pollSlowInterval",
        "spec.subnetIDs",
        "spec.vmNames",
    ];
    let mut fields = wrong_fields(yaml);
    fields.sort();
    assert_eq!(fields, expected);
}

#[test]
fn every_wrong_field_of_a_provider_is_named_at_once() {
    let mut yaml = but(V2, "    projectID: project-1\n", "");
    for (part, instead) in [
        ("    contrabassEndpoint: https://contrabass.example/\n", ""),
        ("0123456789abcdef ", "short"),
        ("contrabassTimeout: 10s", "contrabassTimeout: -1s"),
    ] {
        yaml = but(&yaml, part, instead);
    }
    // The annotation holds the key too.
    yaml = yaml.replace("contrabassEncryptKey: ' 0123456789abcdef '", "contrabassEncryptKey: short");
    let mut fields = wrong_fields(&yaml);
    fields.sort();
    let expected = [
        "spec.credentials.projectID",
        "spec.settings.contrabassEncryptKey",
        "spec.settings.contrabassEndpoint",
        "spec.settings.contrabassTimeout",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_wrong_endpoint_beside_the_credentials_is_named_where_it_stands() {
    let yaml = V1B
        .replace("http://neutron.example:9696", "neutron")
        .replace("http://nova.example:8774/v2.1", "nova");
    assert_eq!(wrong_fields(&yaml), ["spec.credentials.networkEndpoint", "spec.credentials.computeEndpoint"]);
}

#[test]
fn two_kinds_of_credentials_or_none_are_an_error() {
    let both = but(V1B, "    username:", "    openstackProviderID: p\n    username:");
    assert_eq!(wrong_fields(&both), ["spec.credentials"]);
    let none = but(V1B, "    username: admin\n", "");
    assert_eq!(wrong_fields(&none), ["spec.credentials"]);
}

#[test]
fn an_aes_key_has_one_of_three_lengths_in_bytes() {
    let with_key = |key: &str| {
        let yaml =
            but(V2, "contrabassEncryptKey: ' 0123456789abcdef '", &format!("contrabassEncryptKey: '{key}'"));
        read_with(&yaml, &Defaults::default())
    };
    for length in [16, 24, 32] {
        assert!(with_key(&"k".repeat(length)).is_ok());
    }
    for key in ["k".repeat(15), "k".repeat(17), "k".repeat(33), "비".repeat(16)] {
        let error = with_key(&key).unwrap_err().to_string();
        assert!(error.contains("spec.settings.contrabassEncryptKey: has "), "{error}");
        assert!(!error.contains(&key), "{error}");
    }
}

#[test]
fn a_key_in_a_secret_is_never_replaced_by_the_one_in_the_spec() {
    let reference = "  secrets:\n    contrabassEncryptKeySecretRef: {name: keys, key: contrabass}\nstatus:";
    let yaml = but(V2, "status:", reference);
    // Nobody has read the Secret.
    assert_eq!(wrong_fields(&yaml), ["spec.secrets.contrabassEncryptKeySecretRef"]);
    // Somebody has, and hands it over.
    let Credentials::Provider { key, .. } = read_with(&yaml, &controllers()).unwrap().cloud.credentials
    else {
        panic!("another kind of credentials");
    };
    assert_eq!(key.expose_secret(), "fedcba9876543210");
    let nameless = yaml.replace("{name: keys, key: contrabass}", "{name: '', key: ''}");
    let error = read_with(&nameless, &controllers()).unwrap_err();
    assert_eq!(error.0[0].field, "spec.secrets.contrabassEncryptKeySecretRef.name");
    assert_eq!(error.0[1].field, "spec.secrets.contrabassEncryptKeySecretRef.key");
}

#[test]
fn intervals_that_are_not_positive_take_their_defaults_and_slow_is_never_faster_than_fast() {
    let cadence = |settings: &str| read(&with_settings(settings)).cadence;
    let usual = Cadence::default();
    for zero in ["0s", "0", "-5s"] {
        let found = cadence(&format!(
            "pollFastInterval: {zero}, pollSlowInterval: {zero}, pollErrorInterval: {zero}"
        ));
        assert_eq!(found, usual, "{zero}");
    }
    assert_eq!(cadence("pollFastInterval: 10m").slow, Duration::from_secs(600));
    assert_eq!(cadence("pollSlowInterval: 1s").slow, usual.fast);
    for none in ["0s", "0", "-1m"] {
        assert_eq!(cadence(&format!("pollFastWindow: {none}")).window, Duration::ZERO);
    }
    for (given, retries) in [(0, 1), (-3, 1), (1, 1), (9, 9)] {
        assert_eq!(cadence(&format!("downPortFastRetryMax: {given}")).down_retries, retries);
    }
}

#[test]
fn durations_are_written_as_the_older_programs_read_them() {
    for (text, milliseconds) in [
        ("30s", 30_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("1.5s", 1_500),
        ("1m0.5s", 60_500),
    ] {
        let found = read(&with_settings(&format!("openstackTimeout: {text}"))).cloud.timeout;
        assert_eq!(found, Duration::from_millis(milliseconds), "{text}");
    }
    for text in ["30", "soon", "0s", "-1s", "1h-"] {
        let yaml = with_settings(&format!("openstackTimeout: '{text}'"));
        let error = read_with(&yaml, &Defaults::default()).unwrap_err().to_string();
        assert!(error.starts_with("spec.settings.openstackTimeout: invalid duration"), "{error}");
    }
}

#[test]
fn a_star_or_a_list_without_a_usable_status_lets_every_port_in() {
    for list in ["['*']", "[ACTIVE, ' * ']", "[' ', '']"] {
        let config = read(&with_settings(&format!("openstackPortAllowedStatuses: {list}")));
        assert_eq!(config.selection.statuses, StatusFilter::Any, "{list}");
    }
}

#[test]
fn a_key_that_nobody_knows_is_an_error() {
    for (part, instead) in [
        ("  vmNames:", "  vmnames:"),
        ("    username:", "    userName:"),
        ("  subnetName:", "  settings: {pollFast: 1s}\n  subnetName:"),
        ("  subnetName:", "  secrets: {key: x}\n  subnetName:"),
        ("kind:", "Kind:"),
    ] {
        assert!(serde_saphyr::from_str::<Manifest>(&but(V1B, part, instead)).is_err(), "{instead}");
    }
}

#[test]
fn the_hash_of_a_spec_follows_what_is_selected_and_where_and_nothing_else() {
    let hash = |yaml: &str| read(yaml).spec_hash;
    let reference = hash(V1B);
    assert_eq!(reference.len(), 64, "the width of its column");
    assert!(reference.starts_with("v1:"));
    assert_eq!(hash(V1B), reference);
    for (part, instead) in [
        ("secret-password", "another"),
        ("username: admin", "username: other"),
        ("  subnetName:", "  settings: {openstackTimeout: 5s, pollFastInterval: 1s}\n  subnetName:"),
        ("vmNames: [worker-1, worker-2]", "vmNames: [worker-1, ' worker-2', worker-1]"),
        ("name: two-vms", "name: two-vms\n  annotations: {a: b}"),
    ] {
        assert_eq!(hash(&but(V1B, part, instead)), reference, "{instead}");
    }
    for (part, instead) in [
        ("worker-2]", "worker-3]"),
        ("[worker-1, worker-2]", "[worker-1]"),
        ("subnetName: multinic-subnet", "subnetName: other"),
        ("subnetName: multinic-subnet", "subnetID: multinic-subnet"),
        ("projectID: project", "projectID: other"),
        ("keystone.example", "keystone2.example"),
        ("  subnetName:", "  settings: {openstackNodeNameMetadataKey: k}\n  subnetName:"),
        ("  subnetName:", "  settings: {openstackPortAllowedStatuses: [ACTIVE]}\n  subnetName:"),
    ] {
        assert_ne!(hash(&but(V1B, part, instead)), reference, "{instead}");
    }
}

#[test]
fn the_controllers_own_settings_are_no_change_of_a_spec() {
    let manifest: Manifest = serde_saphyr::from_str(V1B).unwrap();
    let settings = Defaults {
        endpoint_region: Some("RegionTwo".to_owned()),
        neutron_endpoint: Some("http://neutron2.example:9696".parse().unwrap()),
        node_name_key: Some("k8s-node".to_owned()),
        port_statuses: Some(vec!["ACTIVE".to_owned()]),
        ..Defaults::default()
    };
    let [with, without] =
        [settings, Defaults::default()].map(|settings| parse(&manifest, &settings).unwrap());
    assert_ne!(with.selection, without.selection);
    assert_eq!(with.spec_hash, without.spec_hash);
}

#[test]
fn secrets_are_in_no_debug_output() {
    let secret = "s3cr3t-s3cr3t-16";
    let provider = V2.replace("0123456789abcdef", secret);
    let password = V1B.replace("secret-password", secret);
    let start = &V1B[..V1B.find("    username").unwrap()];
    let credential =
        format!("{start}    applicationCredentialID: a\n    applicationCredentialSecret: {secret}\n");
    for yaml in [provider, password, credential] {
        let manifest = manifest(&yaml);
        let defaults = Defaults { contrabass_key: Some(secret.into()), ..Defaults::default() };
        let config = parse(&manifest, &defaults).unwrap();
        for shown in [
            format!("{manifest:?}"),
            format!("{:?}", manifest.spec.credentials),
            format!("{:?}", manifest.metadata),
            format!("{config:#?}"),
            format!("{defaults:?}"),
        ] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn a_url_with_a_password_is_refused_and_not_repeated() {
    for part in ["http://keystone.example:5000", "http://neutron.example:9696"] {
        let yaml = but(V1B, part, "http://user:hunter2@keystone.example");
        let error = read_with(&yaml, &Defaults::default()).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let yaml = but(V1B, "http://keystone.example:5000", "ftp://user:hunter2@keystone.example");
    assert!(!read_with(&yaml, &Defaults::default()).unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_secret_of_the_wrong_type_is_not_repeated_in_the_error() {
    for yaml in [
        V1B.replace("secret-password", "[hunter2]"),
        V1B.replace("secret-password", "{hunter2: hunter2}"),
        V1B.replace("    password: secret-password", "    password: hunter2\n    password: hunter2"),
    ] {
        let error = serde_saphyr::from_str::<Manifest>(&yaml).unwrap_err();
        let message = error.without_snippet().to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_password_of_digits_is_a_password() {
    for text in ["12345", "0x1F", "1e3", "true", "'~'"] {
        let yaml = V1B.replace("secret-password", text);
        let Credentials::Password { password, .. } = read(&yaml).cloud.credentials else { panic!("{text}") };
        assert_eq!(password.expose_secret(), text.trim_matches('\''));
    }
}

#[test]
fn options_of_a_port_go_before_those_of_a_subnet_and_those_of_all_fill_the_rest() {
    let text = with_spec(
        "options: {rpFilter: loose, sourceRouting: {enabled: true}}\n  interfaceOptions:\n  \
         - {portID: port-a, subnetID: sub-a, options: {noPrefixRoute: true}}\n  \
         - {subnetID: sub-a, options: {strictArp: false, routes: [{to: 10.8.0.0/16, via: 10.0.0.1}]}}\n",
    );
    let config = read(&text);
    let nic = |port: &str, subnet: &str| multinic_core::Interface {
        mac: "fa:16:3e:00:00:01".parse().unwrap(),
        port: port.into(),
        network: "net".into(),
        subnet: subnet.into(),
        device: "server".into(),
        addresses: multinic_core::Addresses::default(),
        cidr: "10.0.0.0/24".parse().unwrap(),
        mtu: multinic_core::Mtu::new(1500).unwrap(),
    };
    let all = &config.options.all;
    let said = |port, subnet| config.options.of(&nic(port, subnet)).clone();
    assert_eq!(said("port-z", "sub-z"), *all);
    assert_eq!(said("port-a", "sub-a").no_prefix_route, Some(true));
    assert!(said("port-a", "sub-a").routes.is_empty());
    assert_eq!(said("port-z", "sub-a").routes.len(), 1);
    assert_eq!(said("port-a", "sub-z"), *all);
    assert_eq!(said("port-z", "sub-a").source_routing, all.source_routing);
    assert_eq!(config.spec_hash, read(&with_spec("options: {}\n")).spec_hash, "they select nothing");
}

#[test]
fn options_that_do_not_go_together_name_their_field() {
    for (spec, field) in [
        ("options: {noPrefixRoute: true}\n", "spec.options.noPrefixRoute"),
        ("interfaceOptions: [{options: {}}]\n", "spec.interfaceOptions[0]"),
        (
            "interfaceOptions: [{subnetID: a, options: {routes: [{to: 0.0.0.0/0}]}}]\n",
            "spec.interfaceOptions[0].options.routes[0].to",
        ),
    ] {
        assert_eq!(wrong_fields(&with_spec(spec)), [field], "{spec}");
    }
}
