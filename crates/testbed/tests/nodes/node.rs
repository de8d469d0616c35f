//! A node with the agent on it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_testbed::guest::{Asked, Guest, Nic, Rootfs};
use multinic_testbed::node::{ForeignState, NetlinkWatch, NewRoute, Switch};
use multinic_testbed::program::find;
use serde_json::Value;

use crate::kinds::{Kind, NodeFile};
use crate::source::Source;
use crate::wanted::Wanted;

/// A few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// A routing daemon. What an administrator sets by hand looks to networkd like what it set itself and forgot.
const BIRD: u8 = 12;
const OWN: &str = "eth0";
const RULE_OF_OTHERS: &str = "rule add from 203.0.113.7 table 100 priority 5000";
pub const AGENT: &str = "/usr/local/bin/multinic-agent";
const SOURCE: &str = "/mnt/source";
const LOG: &str = "/var/log/multinic-agent.log";
/// What is set for the next start of the agent alone.
const FOR_ONE_START: &str = "/run/multinic-agent.env";
/// Where network managers, udev and the like keep what they were told.
const LASTING: &[&str] = &["etc", "usr/lib/systemd/network", "usr/lib/udev", "usr/local"];
/// Where netplan and networkd keep it until the next boot. NetworkManager writes down there what it found on any NIC.
const OF_THIS_BOOT: &str = "run/systemd/network";

/// What a kernel shows of a NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    pub mtu: u64,
    pub up: bool,
    /// But for those that the kernel makes itself.
    pub addresses: Vec<String>,
}

pub struct Node {
    pub guest: Guest,
    pub kind: &'static Kind,
    pub source: Arc<Source>,
    /// The NICs that are ours to the foreign-state oracle.
    ours: Vec<MacAddr>,
}

impl Node {
    /// A node that has booted, with a NIC of its own that its manager configures, and with links, addresses, routes and rules
    /// of others.
    pub fn boot(kind: &'static Kind) -> Self {
        Self::boot_with(kind, &[])
    }

    /// The same, with further files.
    pub fn boot_with(kind: &'static Kind, files: &[NodeFile]) -> Self {
        let switch = Arc::new(Switch::new().unwrap());
        let mut node = Self::off(kind, 1, &switch, &Arc::new(Source::new()), files);
        node.guest.boot().unwrap();
        node.add_what_others_have();
        node
    }

    /// One of a fleet, which is off.
    pub fn off(
        kind: &'static Kind,
        number: u8,
        switch: &Arc<Switch>,
        source: &Arc<Source>,
        files: &[NodeFile],
    ) -> Self {
        let rootfs = Rootfs::get(kind.release, kind.network).unwrap();
        let mut guest = Guest::new(&rootfs, &format!("node-{number}"), switch).unwrap();
        let mac = MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 1, number]).unwrap();
        let network = "management".to_owned();
        guest.plug(Nic { mac, name: OWN.to_owned(), mtu: 1500, network }).unwrap();
        let own = kind.own_nic(mac, &format!("198.51.100.{number}/24"), "198.51.100.254");
        for NodeFile { path, content, mode } in files.iter().chain([&own]).chain(&kind.settings()) {
            guest.write(path, content, *mode).unwrap();
        }
        // Debug assertions, on which it is tested to die, make it large: all nodes have one copy.
        guest.bind(&find("multinic-agent").expect("cargo build --bins"), AGENT, false);
        guest.bind(source.folder(), SOURCE, true);
        let unit = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart={AGENT} run\nStandardOutput=append:{LOG}\nStandardError=append:{LOG}\n\
             Environment=DATABASE_URL={} NODE_NAME=node-{number} POLL_INTERVAL=1s LOG_FORMAT=text RUST_BACKTRACE=1\n\
             EnvironmentFile=-{FOR_ONE_START}\n",
            Source::url(SOURCE)
        );
        guest.write("/etc/systemd/system/multinic-agent.service", &unit, 0o644).unwrap();
        Self { guest, kind, source: source.clone(), ours: Vec::new() }
    }

    pub fn name(&self) -> &str {
        self.guest.name()
    }

    pub fn own_mac(&self) -> MacAddr {
        let links = self.links();
        let own = links.iter().find(|link| link["ifname"] == OWN).unwrap();
        own["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn own_address(&self) -> String {
        let own = self.shown_by_name(OWN).unwrap();
        let address = own.addresses.iter().find_map(|net| net.split_once('/')).unwrap().0;
        address.to_owned()
    }

    /// Waits until the agent has said that it leaves a NIC alone because it is in use.
    pub fn until_in_use(&self, mac: MacAddr) {
        let mac = mac.to_string();
        self.until("a refusal", || {
            let log = self.agent_log();
            let told = log.lines().any(|line| line.contains("InUse: node_address") && line.contains(&mac));
            (!told).then(|| "not yet".to_owned())
        });
    }

    /// What the agent wrote since the node was made.
    pub fn agent_log(&self) -> String {
        self.guest.read(LOG).unwrap_or_default()
    }

    /// As container networks, VPNs and administrators do.
    pub fn add_what_others_have(&self) {
        self.until("the node's own address", || {
            let own = self.shown_by_name(OWN);
            (own.as_ref().is_none_or(|own| !own.up || own.addresses.is_empty())).then(|| format!("{own:?}"))
        });
        // The same after each boot, down to its number.
        let run = |words: &str| self.guest.run("ip", &words.split(' ').collect::<Vec<_>>()).unwrap();
        run("link add name cni0 index 50 address 02:00:00:00:00:50 type bridge");
        let net = self.guest.net();
        // Without carrier, the kernel never comes to an end with an IPv6 address.
        net.set_sysctl("ipv6/conf/cni0/disable_ipv6", "1").unwrap();
        net.add_address("cni0", "10.244.0.1/24".parse().unwrap(), None).unwrap();
        net.set_up("cni0").unwrap();
        let gateway: IpAddr = "198.51.100.77".parse().unwrap();
        for (to, table) in [("203.0.113.0/24", 254), ("203.0.113.128/25", 100)] {
            let to = to.parse().unwrap();
            let route =
                NewRoute { link: OWN, to, gateway: Some(gateway), protocol: BIRD.into(), table, metric: 0 };
            net.add_route(route).unwrap();
        }
        run(RULE_OF_OTHERS);
    }

    /// networkd as it is shipped drops rules of others whenever it takes up a NIC by somebody's file for every NIC. That is its own
    /// doing, with an agent or without; they set them again.
    pub fn set_again_what_others_lost(&self) {
        let rules = self.guest.run("ip", &["rule", "show"]).unwrap();
        if self.kind.as_shipped && !rules.contains("203.0.113.7") {
            self.guest.run("ip", &RULE_OF_OTHERS.split(' ').collect::<Vec<_>>()).unwrap();
        }
    }

    /// Everything that is not ours. NICs that were plugged so far are.
    pub fn foreign(&self) -> ForeignState {
        self.capture(&[LASTING, &[OF_THIS_BOOT]].concat(), &self.ours)
    }

    /// The same, without what is made anew at each boot.
    pub fn lasting(&self) -> ForeignState {
        self.capture(LASTING, &self.ours)
    }

    /// Everything, ours too.
    pub fn everything(&self) -> ForeignState {
        self.capture(&[LASTING, &[OF_THIS_BOOT]].concat(), &[])
    }

    fn capture(&self, folders: &[&str], ours: &[MacAddr]) -> ForeignState {
        ForeignState::capture_folders(self.guest.net(), &self.guest.path("/"), folders, ours).unwrap()
    }

    /// As a hypervisor does.
    pub fn plug(&mut self, wanted: &Wanted) {
        self.ours.push(wanted.mac);
        self.guest.plug(wanted.nic()).unwrap();
        self.until("udev to know the NIC", || {
            let link = self.shown(wanted).map(|shown| shown.name)?;
            // The agent may rename it between the two.
            let path = format!("/sys/class/net/{link}");
            let known = self.guest.run("udevadm", &["info", "--query=property", &path]);
            (!known.is_ok_and(|known| known.contains("USEC_INITIALIZED="))).then_some(link)
        });
    }

    /// Attaches a port, as a cloud does: it is published, and the NIC appears.
    pub fn attach(&mut self, wanted: &Wanted) {
        self.publish(wanted);
        self.plug(wanted);
    }

    pub fn publish(&self, wanted: &Wanted) {
        self.source.publish([(self.name(), wanted)]);
    }

    pub fn start_agent(&self) {
        self.guest.run("systemctl", &["start", "multinic-agent"]).unwrap();
    }

    /// Starts it with one more variable in its environment.
    pub fn start_agent_with(&self, variable: &str) {
        self.guest.write(FOR_ONE_START, variable, 0o644).unwrap();
        // One that dies at once was not started, as systemd sees it.
        let _ = self.guest.run("systemctl", &["start", "multinic-agent"]);
        fs::remove_file(self.guest.path(FOR_ONE_START)).unwrap();
    }

    pub fn stop_agent(&self) {
        self.guest.run("systemctl", &["stop", "multinic-agent"]).unwrap();
    }

    pub fn kill_agent(&self) {
        self.guest.run("systemctl", &["kill", "--signal=KILL", "multinic-agent"]).unwrap();
        self.until_agent_ends();
    }

    pub fn until_agent_ends(&self) {
        self.until("the end of the agent", || {
            let state = self
                .guest
                .command("systemctl")
                .unwrap()
                .args(["is-active", "multinic-agent"])
                .output()
                .unwrap();
            let state = String::from_utf8(state.stdout).unwrap();
            (!["failed", "inactive"].contains(&state.trim())).then_some(state)
        });
    }

    /// As somebody else does. Waits until the node's own NIC works again.
    pub fn restart_manager(&self) {
        let unit = self.kind.network.unit();
        self.guest.run("systemctl", &["restart", unit]).unwrap();
        self.until("the manager", || {
            let (query, rest): (_, &[&str]) = if self.kind.network.has_network_manager() {
                ("nmcli", &["-g", "GENERAL.STATE", "device", "show", OWN])
            } else {
                ("networkctl", &["--no-pager", "status", OWN])
            };
            let state = self.guest.run(query, rest).unwrap_or_else(|error| error.to_string());
            (!state.contains("(configured)") && !state.contains("100 (connected)")).then_some(state)
        });
    }

    /// The agent's program, with what it has to know of its node.
    pub fn agent_command(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = self.guest.command(AGENT).unwrap();
        command
            .env("LOG_FORMAT", "text")
            .env("NODE_NAME", self.name())
            .env("DATABASE_URL", Source::url(SOURCE));
        command.envs(variables.iter().copied()).args(arguments);
        command
    }

    /// Runs it to its end, and returns what it printed.
    pub fn run_agent(&self, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let output = self.agent_command(variables, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {arguments:?}: {}: {said}", self.name(), output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    fn links(&self) -> Vec<Value> {
        let text = self.guest.run("ip", &["-json", "address", "show"]).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn shown_by_name(&self, name: &str) -> Option<Shown> {
        self.links().iter().find(|link| link["ifname"] == name).map(Shown::of)
    }

    pub fn shown(&self, wanted: &Wanted) -> Option<Shown> {
        self.links().iter().find(|link| link["address"] == wanted.mac.to_string()).map(Shown::of)
    }

    /// What the kernel lacks of a NIC.
    pub fn kernel_fault(&self, wanted: &Wanted) -> Option<String> {
        let shown = self.shown(wanted);
        let mut addresses: Vec<String> = wanted.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        let asked = Shown { name: wanted.name().to_string(), mtu: wanted.mtu.into(), up: true, addresses };
        (shown.as_ref() != Some(&asked)).then(|| format!("{shown:?} is not {asked:?}"))
    }

    /// What a NIC lacks that waits for its name: it has all that it is to have but that, and no manager has a hand on it.
    pub fn fault_aside(&self, wanted: &Wanted) -> Option<String> {
        let Some(shown) = self.shown(wanted) else { return Some("it is not there".to_owned()) };
        let mut addresses: Vec<String> = wanted.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        let asked = Shown { name: shown.name.clone(), mtu: wanted.mtu.into(), up: true, addresses };
        if shown != asked || !shown.name.starts_with("nic") {
            return Some(format!("{shown:?}"));
        }
        let state = self.state_with_network_manager(&shown.name)?;
        // 10: unmanaged.
        (!state.starts_with("10 ")).then_some(state)
    }

    /// How a link stands with NetworkManager, where that is the node's.
    fn state_with_network_manager(&self, link: &str) -> Option<String> {
        let ask = ["--get-values", "GENERAL.STATE", "device", "show", link];
        let state = || self.guest.run("nmcli", &ask).unwrap_or_else(|error| error.to_string());
        self.kind.network.has_network_manager().then(state)
    }

    /// What the files lack of it.
    pub fn file_fault(&self, wanted: &Wanted) -> Option<String> {
        let mut all = String::new();
        for path in self.kind.files(wanted.slot) {
            match self.guest.read(&path) {
                Ok(text) => all += &text.to_lowercase(),
                Err(error) => return Some(error.to_string()),
            }
        }
        let facts = wanted.addresses.iter().map(|net| self.kind.words_for(net));
        let facts = facts.chain([wanted.mac.to_string(), wanted.mtu.to_string()]);
        let missing: Vec<String> = facts.filter(|fact| !all.contains(fact)).collect();
        (!missing.is_empty()).then(|| format!("{missing:?} not in:\n{all}"))
    }

    /// What the node's network manager says of it that is not so.
    pub fn disagreement(&self, wanted: &Wanted, booted: bool) -> Option<String> {
        let Wanted { mac, addresses, .. } = wanted;
        self.guest.disagreement(Asked { mac: *mac, name: wanted.name(), addresses, booted })
    }

    /// Waits until kernel, files and report agree, and then the network manager.
    pub fn until_configured(&self, wanted: &Wanted) {
        self.until(&wanted.name().to_string(), || {
            let reported = self.source.verified(self.name(), wanted.mac);
            let unreported = || (reported != Some(wanted.slot)).then(|| format!("reported: {reported:?}"));
            let kernel = self.kernel_fault(wanted).or_else(|| self.file_fault(wanted));
            kernel.or_else(unreported).or_else(|| self.disagreement(wanted, false))
        });
    }

    /// Waits until the network manager has seen that a NIC has a carrier, or none, and has done what it does then.
    pub fn until_carrier(&self, wanted: &Wanted, carrier: bool) {
        self.until("what follows on a carrier", || self.guest.unsettled(wanted.name(), carrier));
    }

    /// Waits until a node that has booted has a NIC as its files say, with no agent.
    pub fn until_booted_with(&self, wanted: &Wanted) {
        self.until("a NIC without any agent", || {
            let listens = || {
                let heeded = self.guest.net().sysctl(&format!("ipv6/conf/{}/accept_ra", wanted.name()));
                (heeded.as_deref().ok() != Some("0")).then(|| format!("accept_ra is {heeded:?}"))
            };
            self.kernel_fault(wanted).or_else(listens).or_else(|| self.disagreement(wanted, true))
        });
    }

    /// Waits until NetworkManager does with a NIC as with any other that no profile is for.
    pub fn until_managed(&self, wanted: &Wanted) {
        self.until("NetworkManager to have a NIC", || {
            let state = self.state_with_network_manager(&wanted.first_name)?;
            // 30: disconnected; less: unmanaged, or not there.
            (!["30 ", "40 ", "50 ", "60 ", "70 ", "80 ", "90 ", "120 "]
                .iter()
                .any(|it| state.starts_with(it)))
            .then_some(state)
        });
    }

    /// Waits until a NIC has lost what we gave it, and its files are gone.
    pub fn until_released(&self, wanted: &Wanted) {
        self.until("the release of a NIC", || {
            let left = self.shown(wanted).filter(|shown| shown.name == wanted.name().to_string() || shown.up);
            left.map(|shown| format!("{shown:?}")).or_else(|| self.left_file(wanted))
        });
    }

    /// One that is there although the NIC is not ours any more.
    pub fn left_file(&self, wanted: &Wanted) -> Option<String> {
        self.kind.files(wanted.slot).into_iter().find(|path| self.guest.path(path).exists())
    }

    pub fn until(&self, what: &str, mut fault: impl FnMut() -> Option<String>) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(fault) = fault() {
            if Instant::now() > deadline {
                panic!("{}: {what} did not come about: {fault}\n{}", self.name(), self.tell());
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Records what the kernel says of all NICs from now on.
    pub fn watch(&self) -> NetlinkWatch {
        NetlinkWatch::start(self.guest.net(), &[]).unwrap()
    }

    /// Everything that helps to understand a failure.
    pub fn tell(&self) -> String {
        let run = |program: &str, arguments: &[&str]| {
            self.guest.run(program, arguments).unwrap_or_else(|error| error.to_string())
        };
        let log = self.agent_log();
        let lines: Vec<&str> = log.lines().collect();
        let mut parts = BTreeMap::new();
        parts.insert("agent", lines[lines.len().saturating_sub(40)..].join("\n"));
        parts.insert("links", run("ip", &["address", "show"]));
        let unit = self.kind.network.unit();
        parts.insert("manager", run("journalctl", &["--no-pager", "--lines=40", "--unit", unit]));
        parts.iter().map(|(name, text)| format!("--- {name}\n{text}\n")).collect()
    }
}

impl Shown {
    fn of(link: &Value) -> Self {
        let infos = link["addr_info"].as_array().unwrap();
        let lasting = infos.iter().filter(|info| info["scope"] != "link");
        let mut addresses: Vec<String> = lasting
            .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
            .collect();
        addresses.sort();
        Self {
            name: link["ifname"].as_str().unwrap().to_owned(),
            mtu: link["mtu"].as_u64().unwrap(),
            up: link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"),
            addresses,
        }
    }
}

/// All addresses of some NICs.
pub fn addresses_of(wanted: &[&Wanted]) -> Vec<IpAddr> {
    wanted.iter().flat_map(|wanted| wanted.addresses.iter().map(IpNet::addr)).collect()
}
