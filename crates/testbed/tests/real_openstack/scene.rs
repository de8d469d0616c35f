//! One test's own servers, user, database, controller, and nodes with their agents.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use multinic_core::node::observed::{Link, LinkAddress};
use multinic_host::netlink::Netlink;
use multinic_testbed::node::{ForeignState, NetNs, NewRoute, Switch};
use multinic_testbed::program::{Program, find};
use multinic_testbed::relay::relay;
use rtnetlink::packet_route::route::RouteProtocol;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::{Network, Nic, World, text};

pub const PASSWORD: &str = "reader-password";
/// What is well is seen within seconds, but the machine may compile something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Scene {
    name: String,
    user: String,
    servers: Vec<String>,
    nodes: Vec<Node>,
    switch: Switch,
    subnets: Vec<String>,
    database_url: String,
    project: String,
    auth_url: String,
    folder: TempDir,
    controller: Option<Program>,
}

struct Node {
    name: String,
    net: NetNs,
    root: PathBuf,
    database_url: String,
    agent: Option<Program>,
    plugged: Vec<Nic>,
    before: ForeignState,
}

impl Scene {
    /// Two servers and nodes, no NIC yet; controller and agents run.
    pub fn new(world: &mut World, name: &str, networks: &[&Network]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let switch = Switch::new().unwrap();
        let database = name.replace('-', "_");
        world.database.create_database(&database).unwrap();
        let user = world.call(
            "user-create",
            &json!({ "name": format!("{name}-reader"), "password": PASSWORD, "role": "reader" }),
        );
        let (mut servers, mut nodes) = (Vec::new(), Vec::new());
        for number in 1..=2_u8 {
            let node = format!("{name}-{number}");
            // One node has its name from the server, the other from the server's metadata.
            let (server, metadata) = match number {
                1 => (node.clone(), json!({})),
                _ => (format!("vm-{name}"), json!({ "k8s-node": node })),
            };
            let server = world.call("server-create", &json!({ "name": server, "metadata": metadata }));
            servers.push(text(&server["id"]));
            nodes.push(Node::new(world, &switch, &folder, &node, number, &database));
        }
        let subnets =
            networks.iter().flat_map(|network| &network.subnets).map(|(id, _)| id.clone()).collect();
        let mut scene = Self {
            name: name.to_owned(),
            user: text(&user["id"]),
            servers,
            nodes,
            switch,
            subnets,
            database_url: world.database.url(&database),
            project: world.endpoint("project_id"),
            auth_url: world.endpoint("auth_url"),
            folder,
            controller: None,
        };
        fs::create_dir(scene.configs()).unwrap();
        let credentials =
            format!("username: {name}-reader\n    password: {PASSWORD}\n    domainName: Default");
        scene.write_config(&credentials);
        scene.start_controller();
        scene.start_agent(0);
        scene.start_agent(1);
        scene
    }

    fn configs(&self) -> PathBuf {
        self.folder.path().join("configs")
    }

    fn write_config(&self, credentials: &str) {
        let items = |list: &[String]| list.iter().map(|item| format!("\n    - {item}")).collect::<String>();
        let manifest = format!(
            "apiVersion: multinic.example.com/v1alpha1\nkind: OpenstackConfig\nmetadata:\n  name: {}\nspec:\n  vmNames:{}\n  \
             subnetIDs:{}\n  credentials:\n    authURL: {}\n    projectID: {}\n    {credentials}\n  settings:\n    \
             openstackNodeNameMetadataKey: k8s-node\n    pollFastInterval: 1s\n    pollSlowInterval: 1s\n    pollErrorInterval: 1s\n",
            self.name,
            items(&self.servers),
            items(&self.subnets),
            self.auth_url,
            self.project,
        );
        fs::write(self.configs().join("scene.yaml"), manifest).unwrap();
    }

    pub fn use_application_credential(&self, _world: &World, credential: &Value) {
        self.write_config(&format!(
            "applicationCredentialID: {}\n    applicationCredentialSecret: {}",
            text(&credential["id"]),
            text(&credential["secret"])
        ));
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn user_name(&self) -> String {
        format!("{}-reader", self.name)
    }

    pub fn server(&self, place: usize) -> &str {
        &self.servers[place]
    }

    pub fn start_controller(&mut self) {
        let mut command = Command::new(find("multinic").unwrap());
        command.args([
            "controller",
            "--log-format",
            "text",
            "--health-addr",
            "127.0.0.1",
            "--health-port",
            "0",
        ]);
        command.arg("--standalone").arg(self.configs()).env("DATABASE_URL", &self.database_url);
        let log = self.folder.path().join("controller.log");
        self.controller = Some(Program::start("controller", command, log).unwrap());
    }

    pub fn kill_controller(&mut self) {
        self.controller.as_mut().unwrap().kill();
    }

    pub fn restart_controller(&mut self) {
        self.kill_controller();
        self.start_controller();
    }

    pub fn start_agent(&mut self, place: usize) {
        let folder = self.folder.path().to_owned();
        let node = &mut self.nodes[place];
        let mut command = Command::new(find("multinic-agent").unwrap());
        command.args(["run", "--poll-interval", "1s", "--log-format", "text", "--health-addr", "127.0.0.1"]);
        command.args(["--node-name", &node.name, "--allow-unarmed", "--host-root"]).arg(&node.root);
        command.env("DATABASE_URL", &node.database_url);
        let log = folder.join(format!("{}.log", node.name));
        node.agent = Some(node.net.run(|| Program::start("multinic-agent", command, log)).unwrap().unwrap());
    }

    pub fn kill_agent(&mut self, place: usize) {
        self.nodes[place].agent.as_mut().unwrap().kill();
    }

    /// Attaches a new port in the cloud, and plugs the NIC that a hypervisor would.
    pub fn attach(&mut self, world: &mut World, place: usize, network: &Network, name: &str) -> Nic {
        let subnets: Vec<&str> = network.subnets.iter().map(|(id, _)| id.as_str()).collect();
        let port = world.call("port-create", &json!({ "network": network.id, "subnets": subnets }));
        let prefix = |subnet: &str| {
            network.subnets.iter().find(|(id, _)| id == subnet).map(|(_, cidr)| cidr.prefix_len()).unwrap()
        };
        let addresses = port["fixed_ips"].as_array().unwrap().iter().map(|fixed| {
            let length = prefix(&text(&fixed["subnet_id"]));
            IpNet::new(text(&fixed["ip_address"]).parse().unwrap(), length).unwrap()
        });
        let nic = Nic {
            port: text(&port["id"]),
            mac: text(&port["mac_address"]).parse().unwrap(),
            addresses: addresses.collect(),
        };
        world.call("attach", &json!({ "server": self.servers[place], "port": nic.port }));
        let node = &mut self.nodes[place];
        self.switch.plug(&node.net, nic.mac, name, network.mtu, &network.id).unwrap();
        node.plugged.push(nic.clone());
        nic
    }

    fn wait(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > deadline {
                let agents = self.nodes.iter().map(|node| node.agent.as_ref().unwrap().last_lines(8));
                panic!(
                    "{what} did not come about\nstatus:\n{}\ncontroller:\n{}\nagents:\n{}",
                    self.status(),
                    self.controller.as_ref().unwrap().last_lines(12),
                    agents.collect::<Vec<_>>().join("\n--\n")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn status(&self) -> String {
        fs::read_to_string(self.configs().join(format!("default.{}.status.yaml", self.name)))
            .unwrap_or_default()
    }

    pub fn wait_status(&mut self, text: &str) {
        self.wait(&format!("status with {text}"), |scene| scene.status().contains(text));
    }

    pub fn wait_status_without(&mut self, text: &str) {
        self.wait(&format!("status without {text}"), |scene| !scene.status().contains(text));
    }

    /// The kernel shows the name, the MTU, UP and every address.
    fn is_configured(&self, place: usize, nic: &Nic, name: &str, mtu: u32) -> bool {
        let (links, addresses) = self.nodes[place].look();
        let Some(link) = links.into_iter().find(|link| link.mac == Some(nic.mac)) else { return false };
        let has =
            |net: &IpNet| addresses.iter().any(|address| address.link == link.index && address.net == *net);
        link.name == name && link.up && link.mtu == mtu && nic.addresses.iter().all(has)
    }

    pub fn wait_configured(&mut self, place: usize, nic: &Nic, name: &str, mtu: u32) {
        self.wait(&format!("{name} with {:?}", nic.addresses), |scene| {
            scene.is_configured(place, nic, name, mtu)
        });
    }

    /// The NIC is down, under its old name, without our addresses and file.
    pub fn wait_released(&mut self, place: usize, nic: &Nic, name: &str) {
        self.wait(&format!("{name} given back"), |scene| {
            let node = &scene.nodes[place];
            let (links, addresses) = node.look();
            let Some(link) = links.into_iter().find(|link| link.mac == Some(nic.mac)) else { return false };
            let has_ours = addresses.iter().any(|address| nic.addresses.contains(&address.net));
            let named = fs::read_dir(node.root.join("etc/netplan")).unwrap().flatten().any(|file| {
                fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&nic.mac.to_string()))
            });
            link.name == name && !link.up && !has_ours && !named
        });
    }

    /// The database says so too.
    pub fn wait_applied(&mut self, world: &World, nics: &[&Nic]) {
        let database = self.name.replace('-', "_");
        let deadline = Instant::now() + PATIENCE;
        for nic in nics {
            let sql = format!("SELECT netplan_success FROM multi_interface WHERE port_id = '{}'", nic.port);
            while world.database.sql(&database, &sql).unwrap().trim() != "1" {
                assert!(Instant::now() < deadline, "netplan_success of {} is not 1", nic.port);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// A TCP connection from a node to the address of another's NIC is refused by that node's kernel: the way is there.
    pub fn wait_reaches(&mut self, place: usize, other: &Nic) {
        let target = (other.addresses[0].addr(), 9).into();
        // The kernel tells of a new cable late, and gives up the neighbour after 3 s.
        self.wait(&format!("a way to {target}"), |scene| {
            let connect = || std::net::TcpStream::connect_timeout(&target, PATIENCE);
            let error = scene.nodes[place].net.run(connect).unwrap().unwrap_err();
            error.kind() == std::io::ErrorKind::ConnectionRefused
        });
    }

    /// Controller and agents make some more passes, and these NICs stay as they are.
    pub fn assert_untouched_for_passes(&mut self, nics: &[(usize, &Nic, &str, u32)], passes: usize) {
        let counted =
            |scene: &Self| scene.controller.as_ref().unwrap().output().matches("is not published").count();
        let before = counted(self);
        let deadline = Instant::now() + Duration::from_secs(1 + 2 * passes as u64);
        while counted(self) < before + passes && Instant::now() < deadline {
            for (place, nic, name, mtu) in nics {
                assert!(self.is_configured(*place, nic, name, *mtu), "{name} was touched");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything ends in good order, and what is not ours is as it was.
    pub fn end(mut self) {
        for node in &mut self.nodes {
            assert!(node.agent.as_mut().unwrap().terminate(Duration::from_secs(20)).unwrap().success());
            let ours: Vec<_> = node.plugged.iter().map(|nic| nic.mac).collect();
            node.before.assert_same(&ForeignState::capture(&node.net, &node.root, &ours).unwrap());
        }
        assert!(self.controller.as_mut().unwrap().terminate(Duration::from_secs(20)).unwrap().success());
        for log in [self.controller.as_ref().unwrap().output(), self.status()] {
            assert!(!log.contains(PASSWORD), "the password is in a log or status");
        }
    }
}

impl Node {
    /// Every link and address that its kernel shows.
    fn look(&self) -> (Vec<Link>, Vec<LinkAddress>) {
        let looked = self.net.run(|| {
            let netlink = Netlink::open().unwrap();
            (netlink.links().unwrap(), netlink.addresses().unwrap())
        });
        looked.unwrap()
    }

    fn new(world: &World, switch: &Switch, folder: &TempDir, name: &str, number: u8, database: &str) -> Self {
        let net = NetNs::new(name).unwrap();
        let root = folder.path().join(name);
        fs::create_dir_all(root.join("etc/netplan")).unwrap();
        fs::write(root.join("etc/netplan/50-cloud-init.yaml"), "network: {version: 2}\n").unwrap();
        let mac = format!("02:00:00:00:00:{number:02x}").parse().unwrap();
        switch.plug(&net, mac, "ens3", 1500, "management").unwrap();
        net.add_address("ens3", format!("192.0.2.{number}/24").parse().unwrap(), None).unwrap();
        net.set_up("ens3").unwrap();
        net.add_route(NewRoute {
            link: "ens3",
            to: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("192.0.2.254".parse().unwrap()),
            protocol: RouteProtocol::Dhcp,
            table: 254,
            metric: 100,
        })
        .unwrap();
        let server =
            (world.database.host().parse::<std::net::IpAddr>().unwrap(), world.database.port()).into();
        let port = relay(&net, "127.0.0.1".parse().unwrap(), server).unwrap();
        let user = multinic_testbed::mariadb::USER;
        let database_url =
            format!("mysql://{user}:{}@127.0.0.1:{port}/{database}", world.database.password());
        let before = ForeignState::capture(&net, &root, &[]).unwrap();
        Self { name: name.to_owned(), net, root, database_url, agent: None, plugged: Vec::new(), before }
    }
}
