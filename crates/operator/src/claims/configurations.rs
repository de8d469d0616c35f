//! VMs that configurations lay claim to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use multinic_api::OpenstackConfigSpec;
use multinic_api::openstack_config::CredentialsSpec;

use super::Name;

/// An API server passes on so much, and people read no more.
const MOST: usize = 8;

/// What one `OpenstackConfig` lays claim to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    cloud: Cloud,
    vms: BTreeSet<String>,
    subnets: BTreeSet<String>,
}

/// Within which a VM's name means something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cloud {
    Project(String),
    /// Credentials that name no project are bound to one.
    Of(Option<String>, Option<String>),
}

impl Configuration {
    /// That of an object. What cannot be read the schema refuses.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let spec: OpenstackConfigSpec = serde_json::from_value(object.data.get("spec")?.clone()).ok()?;
        let OpenstackConfigSpec { subnet_ids, subnet_id, subnet_name, vm_name, vm_names, .. } = spec;
        let tidy = |texts: Vec<String>| -> BTreeSet<String> {
            texts.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
        };
        let vms = tidy(vm_names.into_iter().flatten().chain(vm_name).collect());
        let ids = tidy(subnet_ids.unwrap_or_default());
        let id = tidy(subnet_id.into_iter().collect());
        // As the controller takes them: the first that is given.
        let subnets = [ids, id, tidy(subnet_name.into_iter().collect())];
        let subnets = subnets.into_iter().find(|subnets| !subnets.is_empty()).unwrap_or_default();
        let CredentialsSpec {
            project_id,
            openstack_provider_id,
            provider_id,
            application_credential_id,
            cloud,
            ..
        } = spec.credentials;
        let given =
            |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let cloud = match given(project_id) {
            Some(project) => Cloud::Project(project),
            None => Cloud::Of(
                given(openstack_provider_id).or(given(provider_id)),
                given(application_credential_id).or(given(cloud)),
            ),
        };
        Some(Self { cloud, vms, subnets })
    }
}

/// VMs that another configuration claims with other subnets. They have the NICs of both then, which may be meant: so it is not
/// refused.
pub fn warnings(name: &Name, ours: &Configuration, all: &BTreeMap<Name, Configuration>) -> Vec<String> {
    let others = all.iter().filter(|(other, theirs)| *other != name && theirs.subnets != ours.subnets);
    let same = others.filter_map(|((namespace, other), theirs)| {
        let is_same = |vm: &&String| theirs.cloud == ours.cloud || is_id(vm);
        let vms: Vec<&str> = ours.vms.intersection(&theirs.vms).filter(is_same).map(String::as_str).collect();
        let first = vms.first()?;
        let more = match vms.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!(
            "VM {first}{more}: claimed by OpenstackConfig {namespace}/{other} too, with other subnets; it has the NICs of both"
        ))
    });
    same.take(MOST).collect()
}

/// Whether a VM is named by its UUID, which means the same in every project.
fn is_id(vm: &str) -> bool {
    let groups: Vec<usize> = vm.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && vm.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    const ID: &str = "0f1e2d3c-0000-4000-8000-00000000000a";

    fn configuration(project: Option<&str>, vms: &[&str], subnets: &[&str]) -> Configuration {
        let object = json!({
            "apiVersion": "multinic.example.com/v1alpha1", "kind": "OpenstackConfig", "metadata": {},
            "spec": {"vmNames": vms, "subnetIDs": subnets, "credentials": {"projectID": project}},
        });
        Configuration::of(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn a_vm_that_another_configuration_has_in_other_subnets_is_told() {
        let name = |text: &str| ("here".to_owned(), text.to_owned());
        let all = BTreeMap::from([(name("one"), configuration(Some("p"), &["a", "b", ID], &["s", "t"]))]);
        for (project, vms, subnets, is) in [
            (Some("p"), vec!["a"], vec!["u"], Some("VM a: claimed by OpenstackConfig here/one")),
            (Some("p"), vec!["a", "b"], vec!["u"], Some("VM a and 1 more: claimed")),
            (Some("p"), vec!["a"], vec!["t", "s"], None),
            (Some("p"), vec!["c"], vec!["u"], None),
            (Some("q"), vec!["a"], vec!["u"], None),
            (Some("q"), vec![ID], vec!["u"], Some("VM 0f1e2d3c")),
            (None, vec!["a"], vec!["u"], None),
        ] {
            let said = warnings(&name("two"), &configuration(project, &vms, &subnets), &all);
            assert_eq!(said.len(), usize::from(is.is_some()), "{said:?}");
            assert!(said.iter().all(|it| is.is_some_and(|is| it.starts_with(is))), "{said:?}");
        }
        let itself = configuration(Some("p"), &["a"], &["u"]);
        assert_eq!(warnings(&name("one"), &itself, &all), [""; 0]);
    }
}
