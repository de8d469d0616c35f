//! What makes a Kubernetes node of a guest.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::network::{ALL_PODS, CONTROL_PLANE, node_address, pod_network};
use super::{ClusterError, image};
use crate::guest::{Guest, succeed};
use crate::kubernetes::{ControlPlane, DOMAIN, KubernetesError};

/// Where Debian has the plugins that connect pods.
const PLUGINS: &str = "/usr/lib/cni";
const START: &str = include_str!("kubelet.sh");
const START_IN_GUEST: &str = include_str!("kubelet_in_guest.sh");

const CONTAINERD: &str = r#"version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  # A guest may have no right to lower the score by which the kernel chooses whom to end.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "/opt/kubernetes/runc"
      SystemdCgroup = false
"#;

const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: \"\"
failSwapOn: false
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /
cgroupsPerQOS: false
enforceNodeAllocatable: []
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
evictionHard: {nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusReportFrequency: 10s
";

/// Gives a guest that is off what a node has on its disk.
pub(super) fn install(
    guest: &mut Guest,
    number: u8,
    control_plane: &ControlPlane,
) -> Result<(), ClusterError> {
    guest.bind(&ControlPlane::node_programs()?, "/opt/kubernetes", false);
    guest.bind(Path::new(PLUGINS), "/opt/cni/bin", false);
    guest.add_disk("containerd", "/var/lib/containerd")?;
    guest.add_disk("kubelet", "/var/lib/kubelet")?;
    let name = guest.name().to_owned();
    let kubeconfig = |user: &str, groups: &[&str]| -> Result<String, KubernetesError> {
        Ok(control_plane.user(user, groups)?.kubeconfig())
    };
    let kubelet = kubeconfig(&format!("system:node:{name}"), &["system:nodes"])?;
    guest.write("/etc/kubernetes/kubelet.kubeconfig", &kubelet, 0o600)?;
    guest.write("/etc/kubernetes/proxy.kubeconfig", &kubeconfig("system:kube-proxy", &[])?, 0o600)?;
    guest.write("/etc/kubernetes/ca.crt", control_plane.ca_pem(), 0o644)?;
    guest.write("/etc/kubernetes/containerd.toml", CONTAINERD, 0o644)?;
    let settings = format!("{KUBELET}clusterDomain: {DOMAIN}\nclusterDNS: [{CONTROL_PLANE}]\n");
    guest.write("/etc/kubernetes/kubelet.yaml", &settings, 0o644)?;
    let pods = format!(
        "{{\"cniVersion\": \"1.0.0\", \"name\": \"pods\", \"plugins\": [{{\"type\": \"bridge\", \"bridge\": \"cni0\", \
         \"isGateway\": true, \"ipam\": {{\"type\": \"host-local\", \"ranges\": [[{{\"subnet\": \"{}\"}}]], \
         \"routes\": [{{\"dst\": \"0.0.0.0/0\"}}]}}}}]}}\n",
        pod_network(number)
    );
    guest.write("/etc/cni/net.d/10-pods.conflist", &pods, 0o644)?;
    Ok(())
}

/// Starts kubelet and the rest in a guest that has booted.
pub(super) fn start(guest: &Guest, number: u8) -> Result<(), ClusterError> {
    let mut command = Command::new("sh");
    command.args(["-c", START, "sh"]).arg(guest.leader()?.to_string()).arg(guest.group());
    command.arg(START_IN_GUEST).arg(guest.name()).arg(node_address(number).to_string()).arg(ALL_PODS);
    succeed(command)?;
    Ok(())
}

/// Where a guest has containerd's client.
const CTR: &str = "/opt/kubernetes/ctr";

/// Makes an image known to a node.
pub(super) fn import(guest: &Guest, archive: &Path) -> Result<(), ClusterError> {
    let mut command = guest.command(CTR)?;
    let archive: PathBuf = archive.canonicalize().map_err(super::error::file(archive))?;
    // The standard input is the one file of this machine that the guest can read.
    let input = std::fs::File::open(&archive).map_err(super::error::file(&archive))?;
    command.args(["--namespace", "k8s.io", "images", "import", "--no-unpack=false", "-"]);
    crate::guest::succeed_with(command, input.into())?;
    Ok(())
}

/// Makes an image of a node known under another name too.
pub(super) fn tag(guest: &Guest, reference: &str, other: &str) -> Result<(), ClusterError> {
    guest.run(CTR, &["--namespace", "k8s.io", "images", "tag", reference, other])?;
    Ok(())
}

/// Every pod has a first process that does nothing, from this image; nobody can be asked for one.
pub(super) fn pause_image(archive: &Path) -> Result<(), ClusterError> {
    let folder = tempfile::tempdir().map_err(super::error::file(std::env::temp_dir()))?;
    let source = folder.path().join("pause.c");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).map_err(super::error::file(&root))?;
    std::fs::write(&source, PAUSE).map_err(super::error::file(&source))?;
    let mut compile = Command::new("cc");
    compile.args(["-static", "-O2", "-s", "-o"]).arg(root.join("pause")).arg(source);
    succeed(compile)?;
    image::pack(&root, &image::Image::new("localhost/pause:1", &["/pause"]), archive)
}

const PAUSE: &str = "#include <signal.h>\n#include <unistd.h>\n\
                     int main(void) { signal(SIGTERM, _exit); signal(SIGINT, _exit); for (;;) pause(); }\n";
