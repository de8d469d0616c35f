//! `scripts/deploy.sh` and `cleanup.sh`: nodes by ssh, a release, and its end without a trace.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use multinic_testbed::real_parts;
use tempfile::TempDir;

use crate::site::{NAMESPACE, Site, eventually};

/// The passphrase of the key: ssh asks for it as it does for a password.
const PASSWORD: &str = "of-the-test";

/// A node as far as ssh goes: its server is this machine's, on loopback, for one key.
struct Node {
    server: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Node {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// None where there is no ssh server.
    fn start() -> Option<Self> {
        let program = "/usr/sbin/sshd";
        if !fs::exists(program).unwrap() {
            real_parts::skip("a test of scripts", format_args!("there is no {program}"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for (key, passphrase) in [("host", ""), ("user", PASSWORD)] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", passphrase, "-f", &path(key)])
                .status()
                .unwrap();
            assert!(made.success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            path("host"),
            path("user.pub"),
        );
        fs::write(path("settings"), settings).unwrap();
        // Debian's server wants it where it runs as root, and the service makes it that nobody started here.
        let _ = fs::create_dir_all("/run/sshd");
        let host = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let mut server = Command::new(program);
        server.args(["-D", "-e", "-f", &path("settings")]);
        let log = fs::File::create(path("log")).unwrap();
        let server = server.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        eventually("the ssh server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { server, port, folder })
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

pub fn succeeded(output: &Output) -> String {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    said
}

pub fn failed(output: &Output) -> String {
    let said = said(output);
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn the_scripts_bring_images_to_nodes_install_and_take_everything_away_again() {
    let Some(site) = Site::new() else { return };
    let Some(node) = Node::start() else { return };
    let text = |name: &str| node.file(name).to_str().unwrap().to_owned();
    fs::create_dir(node.file("images")).unwrap();
    let archives = [("multinic.tar", "one\n"), ("multinic-agent.tar", "two\n"), ("mariadb.tar", "three\n")];
    for (name, content) in archives {
        fs::write(node.file("images").join(name), content).unwrap();
    }
    fs::write(node.file("password"), PASSWORD).unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let (images, key, password) = (text("images"), text("user"), text("password"));
    let import = format!("cat >> {}", text("imported"));
    let known = format!("-o UserKnownHostsFile={}", text("known"));
    let port = node.port.to_string();
    let variables = [
        ("SKIP_BUILD", "true"),
        ("IMAGES_FOLDER", &images),
        ("NODES", "127.0.0.1"),
        ("SSH_USER", user.trim()),
        ("SSH_PORT", &port),
        ("SSH_KEY_PATH", &key),
        ("SSH_PASSWORD_FILE", &password),
        ("SSH_OPTIONS", &known),
        ("IMPORT_COMMAND", &import),
        ("TIMEOUT", "60s"),
    ];
    // There is no node for its pod.
    let settings = ["--", "--set", "controller.replicas=0,agent.pollInterval=15s"];

    let dry = succeeded(&site.script("scripts/deploy.sh", &["--dry-run"], &variables));
    assert!(dry.contains("would run: helm upgrade multinic") && !dry.contains(PASSWORD), "{dry}");
    assert!(!node.file("imported").exists());
    assert_eq!(site.kubectl(&["get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"]), "");

    // A node that is not reached: nothing is installed.
    let unknown = ("SSH_OPTIONS", "-o UserKnownHostsFile=/dev/null");
    for wrong in [("SSH_KEY_PATH", "/dev/null"), unknown] {
        let refused =
            failed(&site.script("scripts/deploy.sh", &settings, &[&variables[..], &[wrong]].concat()));
        assert!(refused.contains("no images on 127.0.0.1"), "{refused}");
    }
    assert_eq!(site.kubectl(&["get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"]), "");

    let log = succeeded(&site.script("scripts/deploy.sh", &settings, &variables));
    assert!(log.contains("127.0.0.1 has them") && log.contains("[9/9") && !log.contains(PASSWORD), "{log}");
    assert_eq!(fs::read_to_string(node.file("imported")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(site.agent_variable("POLL_INTERVAL").as_deref(), Some("15s"));
    // And once more, as an upgrade, with images that are where nodes find them.
    let settings = ["--", "--set", "controller.replicas=0"];
    succeeded(&site.script("scripts/deploy.sh", &settings, &[("DEPLOY_MODE", "none"), ("TIMEOUT", "60s")]));
    assert_eq!(site.agent_variable("POLL_INTERVAL").as_deref(), Some("15s"), "what was set before stays");

    takes_everything_away(&site);
}

fn takes_everything_away(site: &Site) {
    for sample in ["nodeconfig", "password-secret"] {
        let file = format!("--filename=deploy/samples/{sample}.yaml");
        site.kubectl(&["apply", "--namespace", NAMESPACE, &file]);
    }
    let finalizers = |list: &str| {
        let patch = format!(r#"{{"metadata": {{"finalizers": {list}}}}}"#);
        let name = site.names("multinicnodeconfigs")[0].clone();
        site.kubectl(&["patch", &name, "--namespace", NAMESPACE, "--type=merge", "--patch", &patch]);
    };
    // As an agent that does not answer.
    finalizers(r#"["multinic.io/cleanup"]"#);
    let everything = [
        ("CLEAN_NODES", "true"),
        ("DELETE_DEFINITIONS", "true"),
        ("DELETE_NAMESPACE", "true"),
        ("TIMEOUT", "5"),
    ];
    let before = site.of_release();
    let dry = succeeded(&site.script("scripts/cleanup.sh", &["--dry-run"], &everything));
    assert!(dry.contains("would run: helm uninstall multinic"), "{dry}");
    let stuck = failed(&site.script("scripts/cleanup.sh", &[], &everything));
    assert!(stuck.contains("MultiNicNodeConfig") && stuck.contains("is left after 5s"), "{stuck}");
    assert_eq!(site.of_release(), before);

    // By itself, the script takes the programs alone.
    succeeded(&site.script("scripts/cleanup.sh", &[], &[]));
    eventually("the end of the programs", || site.of_release().is_empty());
    assert_eq!(site.names("multinicnodeconfigs").len(), 1);
    let kept = failed(&site.script("scripts/cleanup.sh", &[], &[("DELETE_DEFINITIONS", "true")]));
    assert!(kept.contains("these objects are left"), "{kept}");

    // As its agent does when it has cleaned up.
    finalizers("null");
    succeeded(&site.script("scripts/cleanup.sh", &[], &everything));
    eventually("the end of the definitions", || site.names("customresourcedefinitions").is_empty());
    assert_eq!(site.kubectl(&["get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"]), "");
}
