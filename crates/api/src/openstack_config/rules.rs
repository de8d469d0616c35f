//! Which fields of an `OpenstackConfig` belong together.
//!
//! The rules tell the two shapes of the older programs apart and name the field that is wrong and what to do. A blank
//! text is as if it were absent, as the older programs took it.

use kube::core::{Reason, Rule};

/// Whether a text is there and not blank.
fn given(path: &str) -> String {
    let parents = path.match_indices('.').map(|(at, _)| format!("has(self.{}) && ", &path[..at]));
    format!("({}has(self.{path}) && self.{path}.trim() != '')", parents.collect::<String>())
}

/// Whether a Secret is named.
fn named(reference: &str) -> String {
    format!("(has(self.secrets) && has(self.secrets.{reference}))")
}

/// `if condition then rule`.
fn where_(condition: &str, rule: &str) -> String {
    format!("!{condition} || {rule}")
}

fn rule(rule: &str, field: &str, reason: Reason, message: &str) -> Rule {
    Rule::new(rule).field_path(field).reason(reason).message(message)
}

fn credential(field: &str) -> String {
    given(&format!("credentials.{field}"))
}

pub(super) fn some_vm() -> Rule {
    let list = "(has(self.vmNames) && self.vmNames.exists(vm, vm.trim() != ''))";
    rule(
        &format!("{list} || {}", given("vmName")),
        ".vmNames",
        Reason::FieldValueRequired,
        "name at least one VM, by UUID or by name, in vmNames or vmName",
    )
}

pub(super) fn some_subnet() -> Rule {
    let list = "(has(self.subnetIDs) && self.subnetIDs.exists(id, id.trim() != ''))";
    rule(
        &format!("{list} || {} || {}", given("subnetID"), given("subnetName")),
        ".subnetIDs",
        Reason::FieldValueRequired,
        "SubnetRequired: give subnetIDs, subnetID or subnetName",
    )
}

pub(super) fn one_kind_of_credentials() -> Rule {
    let kinds = [
        format!("({} || {})", credential("openstackProviderID"), credential("providerID")),
        credential("applicationCredentialID"),
        credential("username"),
        named("cloudsSecretRef"),
    ];
    rule(
        &format!("[{}].filter(given, given).size() == 1", kinds.join(", ")),
        ".credentials",
        Reason::FieldValueInvalid,
        "give exactly one of credentials.openstackProviderID (through Contrabass), \
         credentials.applicationCredentialID, credentials.username and secrets.cloudsSecretRef",
    )
}

pub(super) fn one_provider_id() -> Rule {
    let both = format!("({} && {})", credential("openstackProviderID"), credential("providerID"));
    rule(
        &where_(&both, "self.credentials.openstackProviderID.trim() == self.credentials.providerID.trim()"),
        ".credentials.providerID",
        Reason::FieldValueInvalid,
        "is an older name of openstackProviderID and says something else: remove it",
    )
}

pub(super) fn project() -> Rule {
    let user = format!(
        "({} || {} || {})",
        credential("openstackProviderID"),
        credential("providerID"),
        credential("username")
    );
    rule(
        &where_(&user, &credential("projectID")),
        ".credentials.projectID",
        Reason::FieldValueRequired,
        "give the id of the project whose ports are read; only an application credential knows its own",
    )
}

pub(super) fn domain() -> Rule {
    rule(
        &where_(&credential("username"), &credential("domainName")),
        ".credentials.domainName",
        Reason::FieldValueRequired,
        "give the name of the user's domain, such as Default",
    )
}

/// A password may be nothing but blanks.
const PASSWORD: &str =
    "(has(self.credentials) && has(self.credentials.password) && self.credentials.password != '')";

pub(super) fn some_password() -> Rule {
    let password = format!("({PASSWORD} || {})", named("passwordSecretRef"));
    rule(
        &where_(&credential("username"), &password),
        ".credentials.password",
        Reason::FieldValueRequired,
        "give the user's password: name a Secret in secrets.passwordSecretRef (better), or put it here",
    )
}

pub(super) fn one_password() -> Rule {
    rule(
        &format!("!({PASSWORD} && {})", named("passwordSecretRef")),
        ".credentials.password",
        Reason::FieldValueForbidden,
        "the password is in secrets.passwordSecretRef as well: remove it here",
    )
}

pub(super) fn some_application_secret() -> Rule {
    let secret = format!(
        "({} || {})",
        credential("applicationCredentialSecret"),
        named("applicationCredentialSecretRef")
    );
    rule(
        &where_(&credential("applicationCredentialID"), &secret),
        ".credentials.applicationCredentialSecret",
        Reason::FieldValueRequired,
        "give the application credential's secret: name a Secret in secrets.applicationCredentialSecretRef (better), \
         or put it here",
    )
}

pub(super) fn one_application_secret() -> Rule {
    let both =
        [credential("applicationCredentialSecret"), named("applicationCredentialSecretRef")].join(" && ");
    rule(
        &format!("!({both})"),
        ".credentials.applicationCredentialSecret",
        Reason::FieldValueForbidden,
        "the secret is in secrets.applicationCredentialSecretRef as well: remove it here",
    )
}

pub(super) fn cloud_of_a_file() -> Rule {
    rule(
        &where_(&credential("cloud"), &named("cloudsSecretRef")),
        ".credentials.cloud",
        Reason::FieldValueForbidden,
        "names a cloud of a clouds.yaml: name the Secret with the file in secrets.cloudsSecretRef, or remove it",
    )
}

pub(super) fn provider_for_viola() -> Rule {
    rule(
        &where_("(has(self.sinks) && 'viola' in self.sinks)", &credential("k8sProviderID")),
        ".credentials.k8sProviderID",
        Reason::FieldValueRequired,
        "the sink viola sends it as x-provider-id: give it, or take viola out of sinks",
    )
}

pub(super) fn target_for_kubernetes() -> Rule {
    rule(
        &where_("(has(self.target) && has(self.sinks))", "'kubernetes' in self.sinks"),
        ".target",
        Reason::FieldValueForbidden,
        "says where the sink kubernetes writes: add kubernetes to sinks, or remove it",
    )
}
