//! The cloud and the database, one of each for all tests.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::openstack::OpenStack;
use serde_json::{Value, json};

pub struct World {
    pub cloud: OpenStack,
    pub database: MariaDb,
}

/// A network with its subnets, in order.
pub struct Network {
    pub id: String,
    pub subnets: Vec<(String, IpNet)>,
    pub mtu: u32,
}

/// A port that is attached to a server.
#[derive(Debug, Clone)]
pub struct Nic {
    pub port: String,
    pub mac: MacAddr,
    pub addresses: Vec<IpNet>,
}

impl World {
    /// Starts both, once. They stop when the process ends: the one by the end of its standard input, the other by its
    /// guard's. Tests take their turns.
    pub fn get() -> MutexGuard<'static, Self> {
        static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
        let world = WORLD.get_or_init(|| {
            let database = MariaDb::start().expect("a MariaDB");
            Mutex::new(Self { cloud: OpenStack::start().expect("an OpenStack"), database })
        });
        world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn call(&mut self, command: &str, arguments: &Value) -> Value {
        self.cloud.call(command, arguments).unwrap()
    }

    pub fn endpoint(&self, name: &str) -> String {
        self.cloud.endpoints()[name].as_str().unwrap_or_else(|| panic!("{name} in the endpoints")).to_owned()
    }

    pub fn network(&mut self, name: &str, mtu: u32, cidrs: &[&str]) -> Network {
        let network = self.call("network-create", &json!({ "name": name, "mtu": mtu }));
        let id = text(&network["id"]);
        let subnets = cidrs.iter().enumerate().map(|(number, cidr)| {
            let mut arguments = json!({ "name": format!("{name}-{number}"), "network": id, "cidr": cidr });
            if cidr.contains(':') {
                arguments["ipv6_mode"] = json!("dhcpv6-stateful");
            }
            (text(&self.call("subnet-create", &arguments)["id"]), cidr.parse().unwrap())
        });
        let subnets = subnets.collect();
        Network { id, subnets, mtu }
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
