//! The controller: its Deployment and all that it needs.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use multinic_api::MultiNicOperatorSpec;
use multinic_api::operator::{ControllerSpec, HealthProbe};

use super::container::{named, set_limits, set_path, set_port, set_variable};
use super::database::Connection;
use super::{given, settings};
use crate::credentials::REVISION;
use crate::manifests::ControllerManifests;
use crate::object::{Object, Owner};

/// The name of the Deployment, its Service and its ServiceAccount.
pub const CONTROLLER: &str = "multinic-controller";
/// The container in the manifest.
const CONTAINER: &str = "controller";
/// The port of health and metrics in the manifest.
const METRICS: &str = "metrics";
/// Annotation of the pods: which settings they were started with.
const SETTINGS: &str = "multinic.example.com/settings";

pub(super) fn objects(
    owner: &Owner,
    spec: &MultiNicOperatorSpec,
    manifests: &ControllerManifests,
    connection: Option<&Connection>,
) -> Vec<Object> {
    let ControllerManifests { fixed, config, service, deployment } = manifests;
    let mut settings = settings::settings(config.data.as_ref(), spec);
    let of_database = connection.iter().flat_map(|connection| connection.settings.iter().cloned());
    settings.extend(of_database.map(|(name, value)| (name.to_owned(), value)));
    let digest = settings::digest(&settings);
    let config = ConfigMap { data: Some(settings), ..config.clone() };
    let deployment = changed(deployment.clone(), &spec.controller, &digest, connection);
    let budget = budget(&deployment);
    let service = on_port(service.clone(), port(&spec.controller));
    let mut objects: Vec<Option<Object>> = fixed.iter().map(|object| Object::new(owner, object)).collect();
    objects.push(Object::new(owner, &config));
    objects.push(Object::new(owner, &service));
    objects.push(budget.and_then(|budget| Object::new(owner, &budget)));
    objects.push(Object::new(owner, &deployment));
    objects.into_iter().flatten().collect()
}

fn port(spec: &ControllerSpec) -> Option<i32> {
    spec.health_probe.as_ref().and_then(|probe| probe.port)
}

fn changed(
    mut deployment: Deployment,
    spec: &ControllerSpec,
    digest: &str,
    connection: Option<&Connection>,
) -> Deployment {
    // What is not here goes into the ConfigMap.
    let ControllerSpec { image, replicas, resources, health_probe, settings: _ } = spec;
    let Some(wanted) = &mut deployment.spec else { return deployment };
    if let Some(replicas) = replicas {
        wanted.replicas = Some(*replicas);
    }
    let metadata = wanted.template.metadata.get_or_insert_default();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(SETTINGS.to_owned(), digest.to_owned());
    if let Some(revision) = connection.and_then(|connection| connection.revision.clone()) {
        annotations.insert(REVISION.to_owned(), revision);
    }
    let Some(pod) = &mut wanted.template.spec else { return deployment };
    if let Some(connection) = connection {
        connection.mount(pod, CONTAINER);
    }
    let Some(container) = named(pod, CONTAINER) else { return deployment };
    container.image = Some(image.trim().to_owned());
    set_limits(container, resources.as_ref());
    if let Some(HealthProbe { port, path }) = health_probe {
        if let Some(port) = port {
            set_variable(container, "HEALTH_PORT", &port.to_string());
            set_port(container, METRICS, *port);
        }
        if let Some(path) = given(path.as_ref()) {
            // Whether it is alive. Whether it is ready is another question, with a page of its own.
            set_path(container.startup_probe.as_mut(), path);
            set_path(container.liveness_probe.as_mut(), path);
        }
    }
    deployment
}

fn on_port(mut service: Service, port: Option<i32>) -> Service {
    let Some(number) = port else { return service };
    let ports = service.spec.iter_mut().flat_map(|spec| spec.ports.iter_mut().flatten());
    ports.filter(|port| port.name.as_deref() == Some(METRICS)).for_each(|port| port.port = number);
    service
}

/// Of several, one at a time may be taken away.
fn budget(deployment: &Deployment) -> Option<PodDisruptionBudget> {
    let spec = deployment.spec.as_ref().filter(|spec| spec.replicas.is_some_and(|count| count > 1))?;
    let metadata = ObjectMeta {
        name: deployment.metadata.name.clone(),
        labels: deployment.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    let budget = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(spec.selector.clone()),
        ..PodDisruptionBudgetSpec::default()
    };
    Some(PodDisruptionBudget { metadata, spec: Some(budget), status: None })
}
