//! Old or new, never between: the program is killed, or made to fail, at every point of a change.
//!
//! What dies is this test program itself, started again with [`JOB`] set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing loudly"
)]

mod support;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use multinic_core::MacAddr;
use multinic_core::desired::DesiredNic;
use multinic_host::backend::Backend;
use multinic_host::failures::Failed;
use multinic_host::faults::{self, Point};
use multinic_host::state::State;
use multinic_host::{Host, Recovery};
use multinic_testbed::node::NewRoute;
use support::{NIC, OTHER_NIC, World, block_on, mac, net, nic, nic_with, options, pass};

/// What the program that may die is to do: a [`Scenario`], or `recover`.
const JOB: &str = "MULTINIC_TEST_JOB";
const ROOT: &str = "MULTINIC_TEST_ROOT";
const KILLED: i32 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// A new NIC on which the guest's manager took a lease meanwhile, and which has a stale file.
    Create,
    /// A NIC of ours gets other addresses and another MTU, while somebody took a lease on it.
    Change,
    /// It is taken away.
    Release,
}

impl Scenario {
    const ALL: [Self; 3] = [Self::Create, Self::Change, Self::Release];

    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Release => "release",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    fn wanted(self) -> Vec<DesiredNic> {
        match self {
            Self::Create => {
                let routed = r#"{"sourceRouting": {"enabled": true, "tableBase": 300}, "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}]}"#;
                vec![nic_with(routed, nic(NIC, 0, &["192.0.2.10/24", "2001:db8::10/64"], 1450))]
            }
            Self::Change => {
                let routed = r#"{"rpFilter": "loose", "sourceRouting": {"enabled": true, "tableBase": 400}}"#;
                let addresses = ["192.0.2.11/24", "2001:db8::11/64", "2001:db8::10/64"];
                vec![nic_with(routed, nic(NIC, 0, &addresses, 1400))]
            }
            Self::Release => Vec::new(),
        }
    }

    fn releases(self) -> Vec<MacAddr> {
        if self == Self::Release { vec![mac(NIC)] } else { Vec::new() }
    }

    fn prepare(self, world: &World) {
        world.plug(NIC, "ens5");
        world.node.add_altname("ens5", "enp0s5").unwrap();
        if self == Self::Create {
            let stale =
                format!("network:\n  ethernets:\n    multinic4:\n      match: {{macaddress: \"{NIC}\"}}\n");
            world.write("etc/netplan/94-multinic4.yaml", &stale, 0o644);
            world.node.add_altname("ens5", "multinic0").unwrap();
            world.node.set_up("ens5").unwrap();
        } else {
            world.converge(&Self::Create.wanted(), &[]);
            world.node.add_altname("multinic0", "ens5").unwrap();
        }
        let link = if self == Self::Create { "ens5" } else { "multinic0" };
        world.node.add_address(link, net("192.0.2.99/24"), Some(3600)).unwrap();
        let gateway = Some("192.0.2.1".parse().unwrap());
        let protocol = 16.into();
        let lease = NewRoute { link, to: net("0.0.0.0/0"), gateway, protocol, table: 254, metric: 100 };
        world.node.add_route(lease).unwrap();
    }

    fn converge(self, world: &World) {
        world.converge(&self.wanted(), &self.releases());
    }

    /// What the node is like when nothing interrupts.
    fn finished(self) -> String {
        let mut finished = String::new();
        World::with(|world| {
            self.prepare(world);
            self.converge(world);
            finished = world.ours();
        });
        finished
    }
}

/// Not a test of its own: what [`start`] starts.
#[test]
fn worker() {
    let Ok(job) = std::env::var(JOB) else { return };
    let root = PathBuf::from(std::env::var_os(ROOT).unwrap());
    block_on(async {
        let mut host = Host::open(options(&root)).unwrap();
        if let Some(scenario) = Scenario::of(&job) {
            for (_, result) in pass(&mut host, &scenario.wanted(), &scenario.releases()).await {
                result.unwrap_or_else(|error| panic!("{error}"));
            }
        } else {
            for recovered in host.recover().await.unwrap() {
                assert!(!matches!(recovered.outcome, Recovery::Failed(_)), "{recovered:?}");
            }
        }
    });
}

fn start(world: &World, job: &str, fault: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["worker", "--exact", "--nocapture"]).env(JOB, job).env(ROOT, world.root.path());
    command.env(faults::VARIABLE, fault).stdin(Stdio::null());
    world.node.run(|| command.output().unwrap()).unwrap()
}

/// Starts it and says whether it died, as it does if it comes by the point.
fn dies(world: &World, job: &str, fault: &str) -> bool {
    let output = start(world, job, fault);
    let died = output.status.signal() == Some(KILLED);
    assert!(died || output.status.success(), "{fault}: {}", String::from_utf8_lossy(&output.stdout));
    died
}

fn recover(world: &World) {
    let output = start(world, "recover", "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(world.journal().is_empty());
}

fn old_or_new<'a>(point: Point, old: &'a str, new: &'a str) -> &'a str {
    if point < Point::Committed { old } else { new }
}

#[test]
fn killed_at_any_point_the_node_is_old_or_new_after_the_next_start() {
    let kill_everywhere = |scenario: Scenario| {
        let new = scenario.finished();
        let points = faults::ALL.iter().copied().filter(|point| !point.is_of_rollback());
        let mut passed = BTreeSet::new();
        for point in points {
            World::with(|world| {
                scenario.prepare(world);
                let old = world.ours();
                if dies(world, scenario.name(), &format!("{}=kill", point.name())) {
                    passed.insert(point);
                    recover(world);
                    assert_eq!(world.ours(), old_or_new(point, &old, &new), "{scenario:?} at {point:?}");
                }
                scenario.converge(world);
                assert_eq!(world.ours(), new, "{scenario:?} at {point:?}");
            });
        }
        passed
    };
    let passed: BTreeSet<Point> = thread::scope(|scope| {
        let scenarios = Scenario::ALL.map(|scenario| scope.spawn(move || kill_everywhere(scenario)));
        scenarios.into_iter().flat_map(|scenario| scenario.join().unwrap()).collect()
    });
    let missed: Vec<_> = faults::ALL
        .iter()
        .filter(|point| !point.is_of_rollback() && !point.needs_manager() && !point.needs_vlans())
        .filter(|point| !passed.contains(point))
        .collect();
    assert!(missed.is_empty(), "no change passes {missed:?}");
}

#[test]
fn killed_between_two_files_of_a_nic_the_node_is_old_or_new_after_the_next_start() {
    let points = [
        Point::Backup,
        Point::FileTemporary,
        Point::WriteFile,
        Point::RemoveFile,
        Point::Verified,
        Point::Committed,
    ];
    thread::scope(|scope| {
        for backend in [Backend::Networkd, Backend::NetworkManager, Backend::Ifcfg] {
            scope.spawn(move || {
                for scenario in Scenario::ALL {
                    for point in points {
                        World::with_backend(backend, |world| {
                            scenario.prepare(world);
                            let old = world.ours();
                            if dies(world, scenario.name(), &format!("{}=kill", point.name())) {
                                recover(world);
                                let is_old = world.ours() == old;
                                assert_eq!(
                                    is_old,
                                    point < Point::Committed,
                                    "{backend:?} {scenario:?} {point:?}"
                                );
                            }
                            scenario.converge(world);
                        });
                    }
                }
            });
        }
    });
}

#[test]
fn failing_at_any_point_before_the_commit_everything_is_as_before() {
    thread::scope(|scope| {
        for scenario in Scenario::ALL {
            scope.spawn(move || {
                let points = faults::ALL.iter().copied().filter(|point| *point < Point::Committed);
                for point in points {
                    World::with(|world| {
                        scenario.prepare(world);
                        let old = world.ours();
                        let output = start(world, scenario.name(), &format!("{}=fail", point.name()));
                        if !output.status.success() {
                            let said = String::from_utf8_lossy(&output.stderr);
                            let as_before = ["everything is as it was before", "nothing was changed"];
                            assert!(as_before.iter().any(|words| said.contains(words)), "{point:?}: {said}");
                            assert_eq!(world.ours(), old, "{scenario:?} at {point:?}");
                            assert!(world.journal().is_empty());
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn killed_while_rolling_back_the_next_start_rolls_back() {
    thread::scope(|scope| {
        for scenario in Scenario::ALL {
            scope.spawn(move || {
                for point in faults::ALL.iter().copied().filter(|point| point.is_of_rollback()) {
                    World::with(|world| {
                        scenario.prepare(world);
                        let old = world.ours();
                        let fault = format!("verify.done=fail,{}=kill", point.name());
                        assert!(dies(world, scenario.name(), &fault), "no rollback passes {point:?}");
                        // The next start is killed in its turn.
                        assert!(dies(world, "recover", &format!("{}=kill", point.name())), "{point:?}");
                        recover(world);
                        assert_eq!(world.ours(), old, "{scenario:?} at {point:?}");
                    });
                }
            });
        }
    });
}

#[test]
fn a_change_after_a_crash_settles_that_first_and_is_planned_again() {
    World::with(|world| {
        Scenario::Create.prepare(world);
        let old = world.ours();
        assert!(dies(world, "create", "step.rename=kill"));
        let output = start(world, "create", "");
        assert!(String::from_utf8_lossy(&output.stderr).contains("has to be planned again"));
        assert_eq!(world.ours(), old);
        Scenario::Create.converge(world);
    });
}

/// What the node remembers of changes that failed.
fn failures(world: &World) -> Vec<Failed> {
    let state = world.read("var/lib/multinic/state.json").unwrap_or_default();
    let state = State::parse(state.as_bytes()).map(|state| state.failures.nics().clone());
    state.unwrap_or_default().into_values().collect()
}

#[test]
fn a_change_that_died_with_its_agent_is_remembered_as_failed() {
    World::with(|world| {
        Scenario::Create.prepare(world);
        for count in 1..3 {
            assert!(dies(world, "create", "step.rename=kill"));
            recover(world);
            let failures = failures(world);
            assert_eq!(failures.len(), 1);
            assert!(failures[0].undone && failures[0].count == count, "{failures:?}");
            assert!(failures[0].target.as_ref().is_some_and(|target| target.mac == mac(NIC)));
        }
        // It was made, and only its entry was left.
        assert!(dies(world, "create", "commit.written=kill"));
        recover(world);
        assert_eq!(failures(world)[0].count, 2);
    });
    // An agent that lives tells itself that it failed, whoever completes the rollback.
    World::with(|world| {
        Scenario::Create.prepare(world);
        let output = start(world, "create", "verify.done=fail,rollback.files=fail");
        assert!(String::from_utf8_lossy(&output.stderr).contains("ROLLING BACK FAILED TOO"), "{output:?}");
        assert!(!world.journal().is_empty());
        recover(world);
        assert_eq!(failures(world), []);
    });
}

/// What a boot makes of the NIC, whose journal entry is of an earlier boot then.
fn boots(world: &World, addresses: &[&str], table: u32) {
    world.switch.unplug(mac(NIC)).unwrap();
    // Under its old index, another NIC.
    world.plug(OTHER_NIC, "ens6");
    world.plug(NIC, "multinic0");
    world.ip("link set multinic0 up");
    for address in addresses {
        world.ip(&format!("address add {address} dev multinic0"));
    }
    world.ip(&format!("route add 192.0.2.0/24 dev multinic0 table {table} metric 100"));
    let entry = format!("var/lib/multinic/journal/{}", world.journal()[0]);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let another = world.read(&entry).unwrap().replace(boot.trim(), "another boot");
    world.write(&entry, &another, 0o600);
}

#[test]
fn what_another_boot_made_of_the_new_files_is_rolled_back_with_them() {
    World::with(|world| {
        Scenario::Create.prepare(world);
        let old = world.observed();
        assert!(dies(world, "create", "verify.done=kill"));
        boots(world, &["192.0.2.10/24", "2001:db8::10/64"], 300);
        recover(world);
        // A boot may have mended the cause.
        assert_eq!(failures(world), []);
        let now = world.observed();
        assert_eq!((now.files, now.rules), (old.files, old.rules));
        let link = world.link(NIC);
        assert_eq!((link.name.as_str(), link.mtu, link.up), ("ens5", 1500, true));
        assert!(world.addresses(NIC).is_empty());
        assert!(now.other_tables.iter().all(|route| route.link != link.index));
        // So it is as free as it was.
        Scenario::Create.converge(world);
    });
    World::with(|world| {
        Scenario::Change.prepare(world);
        world.ip("address del 192.0.2.99/24 dev multinic0");
        world.ip("route del default dev multinic0");
        let old = world.ours();
        assert!(dies(world, "change", "verify.done=kill"));
        boots(world, &["192.0.2.11/24", "2001:db8::11/64", "2001:db8::10/64"], 400);
        world.node.add_altname("multinic0", "ens5").unwrap();
        world.node.add_altname("multinic0", "enp0s5").unwrap();
        world.switch.unplug(mac(OTHER_NIC)).unwrap();
        recover(world);
        let altnames_apart = |text: String| text.replace(r#"["ens5", "enp0s5"]"#, r#"["enp0s5", "ens5"]"#);
        assert_eq!(altnames_apart(world.ours()), altnames_apart(old));
        Scenario::Change.converge(world);
    });
}

#[test]
fn what_another_boot_made_of_the_old_files_stays() {
    World::with(|world| {
        Scenario::Change.prepare(world);
        let old = world.observed().files;
        assert!(dies(world, "change", "step.add_address=kill"));
        boots(world, &["192.0.2.10/24", "2001:db8::10/64", "192.0.2.98/24"], 300);
        let live = || world.ip("address show multinic0") + &world.ip("route show table 300");
        let before = live().replace(" tentative", "");
        recover(world);
        assert_eq!(world.observed().files, old);
        assert_eq!(live().replace(" tentative", ""), before);
    });
}

#[test]
fn when_the_nic_was_unplugged_only_files_are_rolled_back() {
    World::with(|world| {
        Scenario::Release.prepare(world);
        let old = world.observed().files;
        assert!(dies(world, "release", "step.remove_file=kill"));
        world.switch.unplug(mac(NIC)).unwrap();
        recover(world);
        assert_eq!(world.observed().files, old);
    });
}
