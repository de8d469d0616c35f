//! What a spec changes in a container of a manifest.

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use multinic_api::operator::ResourcesSpec;

use super::given;

/// The container of this name.
pub(super) fn named<'a>(pod: &'a mut PodSpec, name: &str) -> Option<&'a mut Container> {
    pod.containers.iter_mut().find(|container| container.name == name)
}

/// Sets limits. Where one is set, the manifest's request for the same goes: it might be more than the limit, and
/// Kubernetes requests the limit where nothing is said.
pub(super) fn set_limits(container: &mut Container, spec: Option<&ResourcesSpec>) {
    let Some(ResourcesSpec { cpu, memory }) = spec else { return };
    let resources = container.resources.get_or_insert_with(ResourceRequirements::default);
    for (name, quantity) in [("cpu", given(cpu.as_ref())), ("memory", given(memory.as_ref()))] {
        let Some(quantity) = quantity else { continue };
        let limits = resources.limits.get_or_insert_default();
        limits.insert(name.to_owned(), Quantity(quantity.to_owned()));
        if let Some(requests) = &mut resources.requests {
            requests.remove(name);
        }
    }
}

/// Sets a variable that the manifest has.
pub(super) fn set_variable(container: &mut Container, name: &str, value: &str) {
    let variables = container.env.iter_mut().flatten();
    variables.filter(|variable| variable.name == name).for_each(|variable| {
        variable.value = Some(value.to_owned());
    });
}

/// Sets the number of a port that the manifest names.
pub(super) fn set_port(container: &mut Container, name: &str, number: i32) {
    let ports = container.ports.iter_mut().flatten();
    ports.filter(|port| port.name.as_deref() == Some(name)).for_each(|port| port.container_port = number);
}

/// Sets the path that a probe asks for.
pub(super) fn set_path(probe: Option<&mut Probe>, path: &str) {
    if let Some(get) = probe.and_then(|probe| probe.http_get.as_mut()) {
        get.path = Some(path.to_owned());
    }
}
