//! What is shown, in order.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use multinic_core::MacAddr;
use multinic_core::names::INTERFACE_PREFIX;
use multinic_testbed::cloud_simulator::Attached;
use multinic_testbed::node::ForeignState;

use super::Args;
use super::kernel::{MtuWatch, Nic};
use super::ping::ping;
use super::report::Report;
use super::stage::Stage;

/// A new network namespace has its loopback link down.
pub async fn loopback_up() -> anyhow::Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let up = rtnetlink::LinkUnspec::new_with_name("lo").up().build();
    handle.link().set(up).execute().await.context("cannot set the loopback link up")?;
    connection.abort();
    Ok(())
}

/// Plays everything.
pub async fn play(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    report.progress(&format!(
        "a simulated cloud, a SQLite database, the controller, and {} nodes with their agents",
        args.nodes
    ));
    let mut stage = Stage::build(args).await?;
    let before = foreign(&stage, &[])?;
    attach(&mut stage, report)?;
    ping_all(&stage, report)?;
    drift(&mut stage, report)?;
    roll_back(&mut stage, report).await?;
    detach(&mut stage, report).await?;
    untouched(&stage, &before, report)?;
    report.finish();
    if args.keep {
        keep(&stage, report).await?;
    }
    stage.end()
}

/// Ports are attached to the servers in the cloud, and NICs with their MACs appear in the guests.
fn attach(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    report.progress("attaching ports to the servers, as `openstack server add port` does");
    let started = Instant::now();
    let mut count = 0;
    for place in 0..stage.nodes.len() {
        for number in 0..stage.networks.len() {
            let network = stage.networks.get(number).context("a network is missing")?;
            let node = stage.node(place)?;
            let port = stage.cloud.attach(&node.server, &[&network.ipv4, &network.ipv6])?;
            stage.switch.plug(
                &node.net,
                port.mac,
                &format!("ens{}", 4 + number),
                network.mtu.into(),
                &network.name,
            )?;
            stage.nodes.get_mut(place).context("a node is missing")?.nics.push(port);
            count += 1;
        }
    }
    let what = format!("attach {count} ports to {} nodes", stage.nodes.len());
    let ((), took) = stage.wait(&what, started, |stage| {
        for place in 0..stage.nodes.len() {
            for (number, port) in stage.node(place)?.nics.iter().enumerate() {
                if !is_configured(stage, place, number, port)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(()))
    })?;
    let mut seen = Vec::new();
    for (number, port) in stage.node(0)?.nics.iter().enumerate() {
        let mtu = stage.networks.get(number).map_or(0, |network| network.mtu);
        let addresses: Vec<String> = port.addresses.iter().map(IpNet::to_string).collect();
        seen.push(format!(
            "{}: {INTERFACE_PREFIX}{number} {} mtu {mtu} up",
            stage.node(0)?.name,
            addresses.join(" ")
        ));
    }
    report.verified(format!("{what}; in the guests, NICs with their MACs"), seen, took);
    hot_plug(stage, report)
}

/// A NIC whose configuration is on the node before it appears: nothing but the agent's own time.
fn hot_plug(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    report.progress("unplugging a NIC and plugging it again, as a hypervisor does when it resets a port");
    let port = stage.node(0)?.nics.first().context("the first node has no NIC")?.clone();
    stage.switch.unplug(port.mac)?;
    let gone = Instant::now();
    stage
        .wait("the NIC to go", gone, |stage| Ok((!stage.kernel(0)?.contains_key(&port.mac)).then_some(())))?;
    let network = stage.networks.first().context("a network is missing")?;
    let plugged = Instant::now();
    stage.switch.plug(&stage.node(0)?.net, port.mac, "ens4", network.mtu.into(), &network.name)?;
    let ((), took) = stage.wait("the NIC to be configured", plugged, |stage| {
        Ok(is_configured(stage, 0, 0, &port)?.then_some(()))
    })?;
    let seen = vec![format!("{}: {INTERFACE_PREFIX}0 again, with the same addresses", stage.node(0)?.name)];
    report.verified("unplug a NIC and plug it in again", seen, took);
    Ok(())
}

/// Every node reaches every other over every network.
fn ping_all(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    report.progress("pinging between all nodes over the new NICs, IPv4 and IPv6");
    let mut times = Vec::new();
    for from in &stage.nodes {
        for to in stage.nodes.iter().filter(|to| to.name != from.name) {
            for (source, target) in from.nics.iter().zip(&to.nics) {
                for (source, target) in source.addresses.iter().zip(&target.addresses) {
                    let (source, target): (IpAddr, IpAddr) = (source.addr(), target.addr());
                    times.push(from.net.run(|| ping(source, target))??);
                }
            }
        }
    }
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let seen = vec![format!("{} of {} pings answered; took: the median of one", times.len(), times.len())];
    report.verified("ping between all nodes over every network", seen, median);
    Ok(())
}

/// Somebody takes an address away.
fn drift(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    report.progress("breaking a NIC: its address is removed");
    let port = stage.node(0)?.nics.first().context("the first node has no NIC")?.clone();
    let address = *port.addresses.first().context("the first NIC has no address")?;
    let started = Instant::now();
    stage.node(0)?.net.remove_address("multinic0", address)?;
    let ((), took) = stage.wait("the NIC to be repaired", started, |stage| {
        Ok(is_configured(stage, 0, 0, &port)?.then_some(()))
    })?;
    let seen = vec![format!("{}: {INTERFACE_PREFIX}0 has {address} again", stage.node(0)?.name)];
    report.verified("remove an address by hand (drift)", seen, took);
    Ok(())
}

/// A change that the kernel refuses in the middle: another MTU is set, then an IPv6 address cannot be.
async fn roll_back(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    report.progress("a change that fails half-way: the kernel of a node refuses its IPv6 address");
    let port = stage.node(1)?.nics.first().context("the second node has no NIC")?.clone();
    let file = stage.node(1)?.root.join("etc/netplan/90-multinic0.yaml");
    stage.node(1)?.net.set_sysctl(REFUSE_IPV6, "1")?;
    let old = stage.wait("IPv6 to go", Instant::now(), |stage| without_ipv6(stage, &port))?.0;
    let text = std::fs::read_to_string(&file)?;
    let watch = MtuWatch::start(&stage.node(1)?.net, old.index)?;
    let network = stage.networks.first().context("a network is missing")?;
    let mtu = network.mtu - 50;
    let started = Instant::now();
    stage.cloud.set_mtu(&network.id, Some(mtu.into()))?;
    let there_and_back = [u32::from(mtu), old.mtu];
    let ((), took) = stage.wait("the failed change to be rolled back", started, |_| {
        Ok(watch.seen().windows(2).any(|pair| pair == there_and_back).then_some(()))
    })?;
    drop(watch);
    let now = stage.kernel(1)?.remove(&port.mac).context("the NIC is gone")?;
    ensure!(now.mtu == old.mtu && now.up, "the NIC was not rolled back: {now:?}, before {old:?}");
    ensure!(std::fs::read_to_string(&file)? == text, "the file was not rolled back");
    let error = stage.reported_error(1, port.mac).await?;
    let node = stage.node(1)?.name.clone();
    let seen = vec![
        format!("{node}: mtu {} → {mtu} → {}, the file as before", old.mtu, old.mtu),
        format!("reported: {}", error.chars().take(60).collect::<String>()),
    ];
    report.verified("a change that fails half-way is rolled back, live and on disk", seen, took);
    report.progress("mending what made it fail; the change is made");
    stage.node(1)?.net.set_sysctl(REFUSE_IPV6, "0")?;
    let mended = Instant::now();
    if let Some(network) = stage.networks.first_mut() {
        network.mtu = mtu;
    }
    // The other nodes follow too: it is their network's MTU.
    let ((), took) = stage.wait("the change to be made", mended, |stage| {
        for place in 0..stage.nodes.len() {
            let port = stage.node(place)?.nics.first().context("a node has no NIC")?;
            if !is_configured(stage, place, 0, port)? {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    report.verified(
        "the cause is mended, the change is made",
        vec![format!("all nodes: multinic0 mtu {mtu}")],
        took,
    );
    Ok(())
}

/// Below `/proc/sys/net`, of the node that is made to fail.
const REFUSE_IPV6: &str = "ipv6/conf/multinic0/disable_ipv6";

fn without_ipv6(stage: &Stage, port: &Attached) -> anyhow::Result<Option<Nic>> {
    let nic = stage.kernel(1)?.remove(&port.mac).context("the NIC is gone")?;
    Ok((!nic.addresses.iter().any(|net| net.addr().is_ipv6()) && nic.up).then_some(nic))
}

/// A port is detached in the cloud: its NIC is given back as it was found.
async fn detach(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    report.progress("detaching a port in the cloud");
    let place = stage.nodes.len() - 1;
    let port =
        stage.nodes.get_mut(place).and_then(|node| node.nics.pop()).context("the last node has no NIC")?;
    stage.detached.push(port.mac);
    let number = stage.node(place)?.nics.len();
    let root = stage.node(place)?.root.clone();
    let file = root.join(format!("etc/netplan/9{number}-multinic{number}.yaml"));
    let journal = root.join("var/lib/multinic/journal");
    ensure!(file.exists(), "{} is not there before the detach", file.display());
    let started = Instant::now();
    stage.cloud.detach(&port.port)?;
    let name = format!("ens{}", 4 + number);
    let ((), took) = stage.wait("the NIC to be given back", started, |stage| {
        let nics = stage.kernel(place)?;
        let nic = nics.get(&port.mac).context("the NIC is gone")?;
        let has_ours = port.addresses.iter().any(|net| nic.addresses.contains(net));
        // Whoever looks in the middle of a change sees a part of it.
        let has_ended = std::fs::read_dir(&journal)?.next().is_none();
        Ok((nic.name == name && !nic.up && !has_ours && !file.exists() && has_ended).then_some(()))
    })?;
    let node = stage.node(place)?.name.clone();
    let mut slots = stage.store.published().await?;
    slots.interfaces.retain(|row| row.mac() == port.mac);
    ensure!(slots.interfaces.is_empty(), "the port is still published");
    let seen = vec![format!("{node}: {name} again, down, without our addresses and file")];
    report.verified("detach a port in the cloud", seen, took);
    Ok(())
}

/// What is not ours is as it was: the management NIC, its address and route, the guest's own files.
fn untouched(stage: &Stage, before: &[ForeignState], report: &mut Report) -> anyhow::Result<()> {
    report.progress("comparing everything that is not ours with what it was before");
    let started = Instant::now();
    let after = foreign(stage, &all_macs(stage))?;
    for (place, (before, after)) in before.iter().zip(&after).enumerate() {
        let difference = before.difference(after);
        ensure!(difference.is_empty(), "{} is not as it was: {difference}", stage.node(place)?.name);
    }
    let seen = vec!["links, addresses, routes, rules and files that are not ours: unchanged".to_owned()];
    report.verified("look at everything that is not ours", seen, started.elapsed());
    Ok(())
}

async fn keep(stage: &Stage, report: &Report) -> anyhow::Result<()> {
    report.progress("everything keeps running until Ctrl-C:");
    report.progress(&format!("  files and logs     {}", stage.folder.path().display()));
    report.progress(&format!("  simulated cloud    {}", stage.cloud.url()));
    for node in &stage.nodes {
        report.progress(&format!("  {}             {} ip address", node.name, node.enter()));
    }
    stage.shutdown.clone().requested().await;
    Ok(())
}

fn is_configured(stage: &Stage, place: usize, number: usize, port: &Attached) -> anyhow::Result<bool> {
    let nics = stage.kernel(place)?;
    let Some(nic) = nics.get(&port.mac) else { return Ok(false) };
    let mtu = stage.networks.get(number).map_or(0, |network| network.mtu);
    Ok(nic.name == format!("{INTERFACE_PREFIX}{number}")
        && nic.up
        && nic.mtu == u32::from(mtu)
        && port.addresses.iter().all(|net| nic.addresses.contains(net)))
}

fn all_macs(stage: &Stage) -> Vec<MacAddr> {
    stage
        .nodes
        .iter()
        .flat_map(|node| &node.nics)
        .map(|port| port.mac)
        .chain(stage.detached.iter().copied())
        .collect()
}

fn foreign(stage: &Stage, ours: &[MacAddr]) -> anyhow::Result<Vec<ForeignState>> {
    let captured = stage.nodes.iter().map(|node| ForeignState::capture(&node.net, &node.root, ours));
    Ok(captured.collect::<Result<_, _>>()?)
}
