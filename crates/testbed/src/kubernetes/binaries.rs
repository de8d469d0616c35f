//! Where the programs are.

use std::env;
use std::path::PathBuf;

use super::KubernetesError;
use crate::real_parts;

/// Environment variable: the folder with the programs. The name is a convention of those who test on a Kubernetes API.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Environment variable: `oldest` chooses the oldest Kubernetes that is built, in a subfolder of that name.
const CHOICE: &str = "MULTINIC_KUBERNETES";
const OLDEST: &str = "oldest";

pub(super) const ETCD: &str = "etcd";
pub(super) const API_SERVER: &str = "kube-apiserver";
pub(super) const CONTROLLERS: &str = "kube-controller-manager";
const HELM: &str = "helm";

/// Whether the oldest Kubernetes is asked for.
fn oldest() -> bool {
    env::var(CHOICE).as_deref() == Ok(OLDEST)
}

/// The folder that `testbed/kubernetes/build.sh` fills.
fn folder() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_default().join("multinic-testbed/kubernetes")
    };
    set(ASSETS).unwrap_or_else(cache)
}

/// A program's path, if it is there. The oldest Kubernetes has the current etcd, and Helm is the same for both.
pub(super) fn find(program: &'static str) -> Result<PathBuf, KubernetesError> {
    let folder = match folder() {
        folder if oldest() && ![ETCD, HELM].contains(&program) => folder.join(OLDEST),
        folder => folder,
    };
    let path = folder.join(program);
    if path.is_file() {
        return Ok(path);
    }
    let target = match program {
        ETCD => "api",
        HELM => "helm",
        _ if oldest() => "oldest",
        API_SERVER => "api",
        CONTROLLERS => "controllers",
        _ => "cluster",
    };
    Err(KubernetesError::Missing { program, folder, target })
}

/// Whether all of these programs are there. Where they are not, says so on standard error.
///
/// # Panics
/// Where they are not and the environment says that real parts are required.
pub(super) fn installed(programs: &[&'static str]) -> bool {
    let Some(missing) = programs.iter().find_map(|program| find(program).err()) else { return true };
    real_parts::skip("tests on Kubernetes", missing);
    false
}

/// Helm, if it is there. Where it is not, says so on standard error.
///
/// # Panics
/// Where it is not and the environment says that real parts are required.
pub fn helm() -> Option<PathBuf> {
    installed(&[HELM]).then(|| find(HELM).ok()).flatten()
}
