//! `make install`, `uninstall`, `deploy` and `undeploy`.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::kubectl::{Site, finish};

fn names(site: &Site, arguments: &[&str]) -> Vec<String> {
    site.kubectl(&[&["get", "-o", "name"], arguments].concat()).lines().map(str::to_owned).collect()
}

fn make(site: &Site, arguments: &[&str]) -> Command {
    site.command("make", arguments)
}

#[test]
fn install_and_uninstall_put_the_definitions_there_and_take_them_away() {
    let Some(site) = Site::empty() else { return };
    finish(make(&site, &["install"]), "");
    assert_eq!(names(&site, &["crd"]).len(), 3);
    site.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);

    site.kubectl(&["apply", "-f", "deploy/samples/operator.yaml"]);
    let refused = make(&site, &["uninstall"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("multinicoperator") && said.contains("FORCE=1"),
        "{said}"
    );
    assert_eq!(names(&site, &["crd"]).len(), 3);

    // Also where another definition is not there, and nothing is known of what was.
    site.kubectl(&["delete", "--wait", "crd", "openstackconfigs.multinic.example.com"]);
    let cache = tempfile::tempdir().unwrap();
    let refused = make(&site, &["uninstall"]).env("KUBECACHEDIR", cache.path()).output().unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(names(&site, &["crd"]).len(), 2);

    site.kubectl(&["delete", "-f", "deploy/samples/operator.yaml"]);
    finish(make(&site, &["uninstall"]), "");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !names(&site, &["crd"]).is_empty() {
        assert!(Instant::now() < deadline, "the definitions are still there");
        std::thread::sleep(Duration::from_millis(100));
    }
    finish(make(&site, &["uninstall"]), "");
}

#[test]
fn deploy_uses_the_images_and_undeploy_leaves_objects_alone() {
    let Some(site) = Site::empty() else { return };
    finish(make(&site, &["install"]), "");
    let images = ["IMG=registry.example:5000/multinic@sha256:0a", "AGENT_IMG=registry.example:5000/agent:v1"];
    finish(make(&site, &["deploy", images[0], images[1]]), "");
    let path = "jsonpath={..image}";
    let used = site.kubectl(&["get", "deployments,daemonsets", "-n", "multinic-system", "-o", path]);
    let mut used: Vec<&str> = used.split_whitespace().collect();
    used.sort_unstable();
    let [controller, agent] = images.map(|image| image.split_once('=').unwrap().1);
    assert_eq!(used, [agent, controller, controller]);

    site.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    site.kubectl(&["apply", "-f", "deploy/samples/nodeconfig.yaml", "-n", "multinic-system"]);
    finish(make(&site, &["undeploy"]), "");
    finish(make(&site, &["undeploy"]), "");
    assert_eq!(names(&site, &["mnnc", "-n", "multinic-system"]).len(), 1);
    assert_eq!(names(&site, &["deployments,daemonsets,sa", "-n", "multinic-system"]), Vec::<String>::new());
    let left = names(
        &site,
        &[
            "clusterroles,clusterrolebindings,validatingadmissionpolicies",
            "-l",
            "app.kubernetes.io/part-of=multinic",
        ],
    );
    assert_eq!(left, Vec::<String>::new());
}
