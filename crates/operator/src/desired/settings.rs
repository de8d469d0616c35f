//! The controller's settings, as its ConfigMap holds them.

use std::collections::BTreeMap;

use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::{OpenstackEndpoints, ReconcileTrigger};
use sha2::{Digest as _, Sha256};

use super::given;
use crate::record::hex;

const AUTH_URL: &str = "OPENSTACK_AUTH_URL";
const NEUTRON: &str = "OPENSTACK_NEUTRON_ENDPOINT";
const NOVA: &str = "OPENSTACK_NOVA_ENDPOINT";
const MODE: &str = "RECONCILE_MODE";
const INTERVAL: &str = "RECONCILE_INTERVAL";
const SCHEDULE: &str = "RECONCILE_SCHEDULE";
const TIMEZONE: &str = "RECONCILE_TIMEZONE";
const ON_CHANGE: &str = "RECONCILE_IMMEDIATE_ON_CR_CHANGE";
const TOKEN_REVIEW: &str = "RECONCILE_TOKEN_REVIEW";

/// What the manifest of the Deployment or the database's fields say: `spec.controller.settings` may not name them.
pub(crate) const RESERVED: [&str; 12] = [
    "HEALTH_PORT",
    "POD_NAME",
    "POD_NAMESPACE",
    "DATABASE_URL",
    "DB_HOST",
    "DB_PORT",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_PASSWORD_FILE",
    "DB_TLS",
    "DB_TLS_CA",
];

/// The settings: those of the manifest, over them `spec.controller.settings`, and over them the spec's own fields.
pub(super) fn settings(
    manifest: Option<&BTreeMap<String, String>>,
    spec: &MultiNicOperatorSpec,
) -> BTreeMap<String, String> {
    let mut settings = manifest.cloned().unwrap_or_default();
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            settings.insert(name.to_owned(), value.to_owned());
        }
    };
    for (name, value) in spec.controller.settings.iter().flatten() {
        set(name, Some(value));
    }
    if let Some(endpoints) = &spec.openstack {
        let OpenstackEndpoints { identity_endpoint, network_endpoint, compute_endpoint } = endpoints;
        set(AUTH_URL, given(Some(identity_endpoint)));
        set(NEUTRON, given(Some(network_endpoint)));
        set(NOVA, given(Some(compute_endpoint)));
    }
    if let Some(trigger) = &spec.reconcile_trigger {
        let ReconcileTrigger { mode, interval, schedule, timezone, immediate_on_cr_change } = trigger;
        set(MODE, given(mode.as_ref()));
        set(INTERVAL, given(interval.as_ref()));
        set(SCHEDULE, given(schedule.as_ref()));
        set(TIMEZONE, given(timezone.as_ref()));
        set(ON_CHANGE, immediate_on_cr_change.map(|is_on| if is_on { "true" } else { "false" }));
        // A mode in which nobody could ask would be refused by the controller.
        set(TOKEN_REVIEW, (given(mode.as_ref()) == Some("webhook")).then_some("true"));
    }
    settings
}

/// Tells settings apart. A pod reads them only when it starts, so another digest in its template starts another.
pub(super) fn digest(settings: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in settings {
        // A zero byte is in neither.
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(value.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}
