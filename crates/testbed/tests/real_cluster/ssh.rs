//! Nodes whose administrator reaches them by ssh.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use multinic_testbed::cluster::image;
use multinic_testbed::program::find;

use crate::chart;
use crate::scene::Scene;

/// Of root, on every node.
const PASSWORD: &str = "of the test";

/// What the administrator has: a key and a password that the nodes take, and the nodes' own keys.
pub struct Ssh {
    folder: PathBuf,
}

impl Ssh {
    /// Starts every node's server.
    pub fn start(scene: &Scene) -> Self {
        let folder = scene.cluster.folder().join("ssh");
        fs::create_dir(&folder).unwrap();
        let ssh = Self { folder };
        let key = ssh.text("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
        assert!(made.unwrap().success());
        fs::write(ssh.text("password"), PASSWORD).unwrap();
        let user = fs::read_to_string(ssh.text("key.pub")).unwrap();
        let mut known = String::new();
        for node in 0..scene.nodes.len() {
            let guest = scene.cluster.guest(node).unwrap();
            guest.write("/root/.ssh/authorized_keys", &user, 0o600).unwrap();
            guest.run("sh", &["-c", "printf 'root:%s\\n' \"$0\" | chpasswd", PASSWORD]).unwrap();
            guest.write("/etc/ssh/sshd_config.d/root.conf", "PermitRootLogin yes\n", 0o644).unwrap();
            guest.run("ln", &["-s", "/opt/kubernetes/ctr", "/usr/local/bin/ctr"]).unwrap();
            guest.run("systemctl", &["start", "ssh.service"]).unwrap();
            let host = guest.read("/etc/ssh/ssh_host_ed25519_key.pub").unwrap();
            known += &format!("{} {host}", scene.cluster.address(node).unwrap());
        }
        fs::write(ssh.text("known"), known).unwrap();
        ssh
    }

    fn text(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// The variable that names the administrator's key.
    pub fn key(&self) -> (&'static str, String) {
        ("SSH_KEY_PATH", self.text("key"))
    }

    /// The variable that names the file with the password.
    pub fn password(&self) -> (&'static str, String) {
        ("SSH_PASSWORD_FILE", self.text("password"))
    }

    /// Runs a script with images of a tag that no node has yet, and returns what it says.
    pub fn deploy(&self, scene: &Scene, script: &str, tag: &str, secret: &(&str, String)) -> String {
        let images = self.images(tag);
        let known = format!("-o UserKnownHostsFile={}", self.text("known"));
        let variables = [
            ("SKIP_BUILD", "true"),
            ("IMAGES_FOLDER", &images),
            ("IMAGE_NAME", "localhost/multinic"),
            ("IMAGE_TAG", tag),
            ("SSH_OPTIONS", &known),
            (secret.0, &secret.1),
        ];
        let said = chart::script_among_nodes(scene, script, &variables);
        assert!(!said.contains(PASSWORD), "{said}");
        said
    }

    fn images(&self, tag: &str) -> String {
        let folder = self.folder.join(format!("images-{tag}"));
        fs::create_dir(&folder).unwrap();
        for name in ["multinic", "multinic-agent"] {
            let reference = format!("localhost/{name}:{tag}");
            image::pack_program(&find(name).unwrap(), &reference, &folder.join(format!("{name}.tar")))
                .unwrap();
        }
        folder.to_str().unwrap().to_owned()
    }
}
