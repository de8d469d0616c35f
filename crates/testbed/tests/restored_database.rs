//! The database is backed up, changes, is lost and comes back from the backup: the real controller, the real agent, a real
//! MariaDB and a real kernel's NICs. A ledger of the past takes nothing away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use multinic_core::{MacAddr, ServerId, SubnetId};
use multinic_host::netlink::Netlink;
use multinic_testbed::cloud_simulator::{Attached, Simulator, USER as CLOUD_USER};
use multinic_testbed::mariadb::{MariaDb, USER};
use multinic_testbed::node::{NetNs, Switch};
use multinic_testbed::program::{Program, find};
use multinic_testbed::real_parts;
use multinic_testbed::relay::relay;
use serde_json::Value;
use tempfile::TempDir;

/// Two busy cores need a part of it.
const PATIENCE: Duration = Duration::from_secs(120);
const LEDGER: &str = "ledger";
/// More reads than the rules ask for before an absence is believed.
const MANY_READS: f64 = 8.0;

fn wait(what: &str, said: impl Fn() -> String, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "not yet: {what}\n{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A node, its cloud, and everything between.
struct Scene {
    folder: TempDir,
    database: MariaDb,
    cloud: Simulator,
    server: ServerId,
    subnet: SubnetId,
    node: NetNs,
    switch: Switch,
    agent: Program,
    controller: Option<Program>,
    /// Where the simulated cloud works.
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = MariaDb::start().unwrap();
        database.create_database(LEDGER).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let cloud = runtime.block_on(Simulator::start((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let server = cloud.add_server("worker-1");
        let network = cloud.add_network("lab", Some(1450));
        let subnet = cloud.add_subnet(&network, "lab", "10.77.0.0/24".parse().unwrap()).unwrap();

        let (node, switch) = (NetNs::new("worker-1").unwrap(), Switch::new().unwrap());
        switch.plug(&node, "02:00:00:00:00:01".parse().unwrap(), "ens3", 1500, "management").unwrap();
        node.add_address("ens3", "192.0.2.11/24".parse().unwrap(), None).unwrap();
        node.set_up("ens3").unwrap();
        let target = (Ipv4Addr::LOCALHOST, database.port()).into();
        let port = relay(&node, Ipv4Addr::LOCALHOST.into(), target).unwrap();

        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc/netplan")).unwrap();
        let mut command = node.command(find("multinic-agent").expect("cargo build --bins"));
        command.args(["run", "--allow-unarmed", "--node-name", "worker-1", "--host-root"]).arg(&root);
        let password = database.password();
        command.env("DATABASE_URL", format!("mysql://{USER}:{password}@127.0.0.1:{port}/{LEDGER}"));
        command.envs([("POLL_INTERVAL", "200ms"), ("HEALTH_ADDR", "127.0.0.1"), ("HEALTH_PORT", "0")]);
        // Every absence is believed at once, so that only what the test is about holds a NIC.
        command.envs([("ABSENCE_CONFIRM", "0s"), ("ABSENCE_CONFIRM_ALL", "0s")]);
        let agent = Program::start("multinic-agent", command, folder.path().join("agent.log")).unwrap();
        for name in ["configs", "backups", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (user, domain, secret) = CLOUD_USER;
        let manifest = format!(
            "apiVersion: multinic.example.com/v1alpha1\nkind: OpenstackConfig\nmetadata:\n  name: lab\nspec:\n  \
             vmNames: [worker-1]\n  subnetIDs: [{subnet}]\n  credentials:\n    authURL: {}\n    username: {user}\n    \
             password: {secret}\n    domainName: {domain}\n    projectID: {}\n  settings:\n    pollFastInterval: 500ms\n    \
             pollSlowInterval: 500ms\n",
            cloud.url(),
            cloud.project(),
        );
        fs::write(folder.path().join("configs/lab.yaml"), manifest).unwrap();
        let mut scene = Self {
            folder,
            database,
            cloud,
            server,
            subnet,
            node,
            switch,
            agent,
            controller: None,
            _runtime: runtime,
        };
        scene.start_controller();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_controller(&mut self) {
        let mut command = Command::new(find("multinic").expect("cargo build --bins"));
        command.arg("controller").arg("--standalone").arg(self.path("configs"));
        command.env("DATABASE_URL", self.database.url(LEDGER));
        command.envs([("HEALTH_ADDR", "127.0.0.1"), ("HEALTH_PORT", "0")]);
        self.controller = Some(Program::start("controller", command, self.path("controller.log")).unwrap());
    }

    fn stop_controller(&mut self) {
        self.controller.take().unwrap().terminate(PATIENCE).unwrap();
    }

    /// `multinic backup` with these words, which has to succeed.
    fn backup(&self, words: &[&str]) -> String {
        let mut command = Command::new(find("multinic").expect("cargo build --bins"));
        command.arg("backup").args(words);
        command.arg("--folder").arg(self.path("backups")).arg("--work").arg(self.path("work"));
        if words.contains(&"make") {
            let port = self.database.port().to_string();
            command.envs([("DB_HOST", self.database.host()), ("DB_PORT", &port), ("DB_NAME", LEDGER)]);
            command.envs([("DB_USER", USER), ("DB_PASSWORD", self.database.password())]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn attach(&self, link: &str) -> Attached {
        let nic = self.cloud.attach(&self.server, &[&self.subnet]).unwrap();
        self.switch.plug(&self.node, nic.mac, link, 1500, "lab").unwrap();
        nic
    }

    /// The name and the addresses of the link with this MAC.
    fn link(&self, mac: MacAddr) -> Option<(String, Vec<IpNet>)> {
        let look = || {
            let netlink = Netlink::open().unwrap();
            (netlink.links().unwrap(), netlink.addresses().unwrap())
        };
        let (links, addresses) = self.node.run(look).unwrap();
        let link = links.into_iter().find(|link| link.mac == Some(mac))?;
        let own = addresses.iter().filter(|address| address.link == link.index && !address.link_local);
        Some((link.name, own.map(|address| address.net).collect()))
    }

    fn said(&self) -> String {
        let controller = self.controller.as_ref().map(|program| program.last_lines(10));
        format!("{}\n{}", self.agent.last_lines(10), controller.unwrap_or_default())
    }

    /// The name of a NIC that kernel and ledger have as its port has it.
    fn configured(&self, nic: &Attached) -> Option<String> {
        let (name, addresses) = self.link(nic.mac)?;
        let sql = format!(
            "SELECT 1 FROM multi_interface WHERE macaddress = '{}' AND netplan_success = 1 AND deleted_at IS NULL",
            nic.mac
        );
        let is_told = self.database.sql(LEDGER, &sql).is_ok_and(|rows| rows.trim() == "1");
        (is_told && addresses == nic.addresses && name.starts_with("multinic")).then_some(name)
    }

    fn until_configured(&self, nic: &Attached) -> String {
        wait("the NIC is configured", || self.said(), || self.configured(nic).is_some());
        self.configured(nic).unwrap()
    }

    /// How many passes the agent has ended.
    fn passes(&self) -> f64 {
        let log = self.agent.output();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line["msg"] == "health and metrics are served");
        let address = lines.next().unwrap()["address"].as_str().unwrap().to_owned();
        let page = self
            .node
            .run(|| {
                let mut stream = TcpStream::connect(&address).unwrap();
                write!(stream, "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
                let mut page = String::new();
                stream.read_to_string(&mut page).unwrap();
                page
            })
            .unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("multinic_polling_cycles_total "));
        line.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
    }

    /// Everything that the database held is gone, and the backup is all that there is.
    fn lose_everything_and_restore(&mut self) {
        let data = self.database.lose_data().unwrap();
        self.restore(&data);
        self.database.restart().unwrap();
        let password = self.database.password();
        let accounts =
            format!("CREATE USER {USER}@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO {USER}@'%';");
        self.database.sql("", &accounts).unwrap();
    }

    fn restore(&self, data: &Path) {
        let data = data.display().to_string();
        let said = self.backup(&["restore", "--data", &data, "--database", LEDGER]);
        assert!(said.contains("rows"), "{said}");
    }
}

#[test]
fn nothing_is_taken_away_by_a_ledger_of_the_past_and_the_controller_mends_it() {
    if !MariaDb::installed() {
        return;
    }
    if Command::new("mariadb-dump").arg("--version").output().is_err() {
        return real_parts::skip("a lost database", "mariadb-dump is not installed");
    }
    let mut scene = Scene::new();
    let (stays, goes) = (scene.attach("ens4"), scene.attach("ens5"));
    let name_of_first = scene.until_configured(&stays);
    scene.until_configured(&goes);
    scene.backup(&["make"]);

    // One goes and one comes: the backup knows the former, and nothing of the latter.
    scene.cloud.detach(&goes.port).unwrap();
    let is_given_back =
        |scene: &Scene| scene.link(goes.mac).is_none_or(|(_, addresses)| addresses.is_empty());
    wait("the NIC is given back", || scene.said(), || is_given_back(&scene));
    scene.switch.unplug(goes.mac).unwrap();
    let comes = scene.attach("ens6");
    let name_of_new = scene.until_configured(&comes);

    scene.stop_controller();
    scene.lose_everything_and_restore();
    let rows = scene.database.sql(LEDGER, "SELECT macaddress FROM multi_interface").unwrap();
    assert!(rows.contains(&goes.mac.to_string()) && !rows.contains(&comes.mac.to_string()), "{rows}");
    wait(
        "the agent sees another epoch",
        || scene.said(),
        || scene.agent.output().contains("on its word nothing is taken away"),
    );
    let reads = scene.passes();
    wait("many reads", || scene.said(), || scene.passes() >= reads + MANY_READS);
    for (nic, name) in [(&stays, &name_of_first), (&comes, &name_of_new)] {
        assert_eq!(scene.link(nic.mac).unwrap(), (name.clone(), nic.addresses.clone()), "{}", scene.said());
    }

    scene.start_controller();
    scene.until_configured(&comes);
    assert_eq!(scene.until_configured(&stays), name_of_first);
    let gone = format!(
        "SELECT COUNT(*) FROM multi_interface WHERE macaddress = '{}' AND deleted_at IS NULL",
        goes.mac
    );
    wait(
        "the ledger is what the cloud says",
        || scene.said(),
        || scene.database.sql(LEDGER, &gone).is_ok_and(|count| count.trim() == "0"),
    );
    // What it says now is believed again.
    scene.cloud.detach(&comes.port).unwrap();
    wait(
        "a NIC goes again",
        || scene.said(),
        || scene.link(comes.mac).is_some_and(|(_, addresses)| addresses.is_empty()),
    );
    assert_eq!(scene.configured(&stays).as_ref(), Some(&name_of_first));
    scene.stop_controller();
}
