//! What worked before a change works after it, or the change is undone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing loudly"
)]

mod support;

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use multinic_core::desired::DesiredNic;
use multinic_host::netlink::{Neighbour, Netlink};
use multinic_host::probes::Reach;
use multinic_host::{Anchors, ApplyError, Cause, Host, Options, Rollback};
use support::{NIC, World, net, nic, options, pass, plan_of};

const OWN: &str = "198.51.100.5";
const GATEWAY: &str = "198.51.100.1";
/// Takes the way to the gateway for itself.
const OVER_THE_GATEWAY: &str = "198.51.100.66/25";
const HARMLESS: &str = "192.0.2.10/24";
/// The bridge of the network that the node's own NIC is in.
const ROUTER: &str = "net1";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Somebody at the gateway's address.
fn router(world: &World) {
    let switch = world.switch.namespace();
    // Not on the bridges of other networks.
    switch.set_sysctl("ipv4/conf/all/arp_ignore", "1").unwrap();
    switch.set_up(ROUTER).unwrap();
    switch.add_address(ROUTER, net("198.51.100.1/24"), None).unwrap();
}

fn neighbour(world: &World) -> Neighbour {
    let link = world.node.index_of("ens3").unwrap();
    world.node.run(|| Netlink::open().unwrap().neighbour(link, address(GATEWAY)).unwrap()).unwrap()
}

/// The node speaks to its gateway, as every node does.
fn speak_to_gateway(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while neighbour(world) != Neighbour::Answers {
        assert!(Instant::now() < deadline, "{:?}", neighbour(world));
        let send = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (GATEWAY, 9));
        // What comes back from a closed port is of no interest.
        let _ = world.node.run(send).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hasty(world: &World) -> Options {
    let node_addresses = [address(OWN)].into();
    let anchors = Anchors { node_addresses, ..Anchors::default() };
    Options { safe_apply: Duration::from_secs(2), anchors, ..options(world.root.path()) }
}

/// Makes the one change that is wanted.
async fn change(host: &mut Host, wanted: &[DesiredNic]) -> Result<(), ApplyError> {
    let mut done = pass(host, wanted, &[]).await;
    assert_eq!(done.len(), 1, "{done:?}");
    done.remove(0).1
}

#[track_caller]
fn assert_cut(error: &ApplyError, words: &str, works_again: bool) {
    let Cause::Cut { lost, still } = &error.cause else { panic!("{error}") };
    assert!(lost.iter().any(|lost| lost.contains(words)), "{error}");
    assert_eq!(still.is_empty(), works_again, "{error}");
    assert_eq!(error.rollback, Rollback::Verified, "{error}");
}

#[test]
fn a_change_that_takes_the_way_to_the_gateway_is_undone() {
    World::with(|world| {
        router(world);
        speak_to_gateway(world);
        world.plug(NIC, "ens5");
        let before = world.ours();
        let wanted = [nic(NIC, 0, &[OVER_THE_GATEWAY], 1450)];
        let error = world.host_with(hasty(world), async |host| change(host, &wanted).await.unwrap_err());
        assert_cut(&error, "gateway 198.51.100.1 is not reached by its own link", true);
        assert_eq!(world.ours(), before);
        assert!(world.journal().is_empty());
        // The one that harms nobody is made.
        world.host_with(hasty(world), async |host| {
            change(host, &[nic(NIC, 0, &[HARMLESS], 1450)]).await.unwrap();
        });
    });
}

#[test]
fn a_change_after_which_the_gateway_does_not_answer_is_undone() {
    World::with(|world| {
        router(world);
        speak_to_gateway(world);
        world.plug(NIC, "ens5");
        let before = world.ours();
        // The kernel goes on to believe in it for some seconds.
        world.switch.namespace().remove_address(ROUTER, net("198.51.100.1/24")).unwrap();
        let wanted = [nic(NIC, 0, &[HARMLESS], 1450)];
        let error = world.host_with(hasty(world), async |host| change(host, &wanted).await.unwrap_err());
        assert_cut(&error, "gateway 198.51.100.1 does not answer", false);
        assert_eq!(world.ours(), before);
        // It did not work before this one.
        world.host_with(hasty(world), async |host| change(host, &wanted).await.unwrap());
    });
}

#[test]
fn a_change_that_takes_the_node_s_address_is_undone() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        world.converge(&[nic(NIC, 0, &[HARMLESS], 1450)], &[]);
        let before = world.ours();
        let error = world.host_with(hasty(world), async |host| {
            let observed = host.observe().await.unwrap();
            let wanted = [nic(NIC, 0, &["192.0.2.11/24"], 1450)];
            let planned = plan_of(host, &observed, &wanted, &[]).changes;
            // Known too late for preflight.
            let node_addresses = [address("192.0.2.10")].into();
            host.set_anchors(Anchors { node_addresses, ..Anchors::default() });
            host.apply(&planned[0]).await.unwrap_err()
        });
        assert_cut(&error, "the node's address 192.0.2.10 is gone", true);
        assert_eq!(world.ours(), before);
    });
}

#[test]
fn a_change_that_cuts_the_way_to_the_source_is_undone() {
    World::with(|world| {
        router(world);
        speak_to_gateway(world);
        let listener = world.switch.namespace().run(|| TcpListener::bind((GATEWAY, 0)).unwrap()).unwrap();
        let source = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        world.plug(NIC, "ens5");
        let before = world.ours();
        let wanted = [nic(NIC, 0, &[OVER_THE_GATEWAY], 1450)];
        let error = world.host_with(hasty(world), async |host| {
            host.set_reach(Reach::new("the source", move || connect(source)));
            change(host, &wanted).await.unwrap_err()
        });
        assert_cut(&error, "the source cannot be reached", true);
        assert_eq!(world.ours(), before);
    });
}

async fn connect(source: SocketAddr) -> Result<(), String> {
    let connected =
        tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(source)).await;
    connected.map_err(|_| "no answer".to_owned())?.map(drop).map_err(|error| error.to_string())
}

/// A source that answers unless it is asked for one of these times.
fn source(silent: std::ops::Range<u32>) -> (Arc<AtomicU32>, Reach) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let reach = Reach::new("the source", move || {
        let silent = silent.contains(&count.fetch_add(1, Ordering::SeqCst));
        async move { if silent { Err("lost".to_owned()) } else { Ok(()) } }
    });
    (asked, reach)
}

#[test]
fn an_answer_that_is_lost_undoes_nothing() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let (asked, reach) = source(1..3);
        world.host_with(hasty(world), async |host| {
            host.set_reach(reach);
            change(host, &[nic(NIC, 0, &[HARMLESS], 1450)]).await.unwrap();
        });
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    });
}

#[test]
fn a_source_that_is_known_to_be_away_since_it_answered_undoes_nothing() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let (asked, reach) = source(1..u32::MAX);
        world.host_with(hasty(world), async |host| {
            host.set_reach(reach);
            host.source_answered();
            change(host, &[nic(NIC, 0, &[HARMLESS], 1450)]).await.unwrap();
            host.source_failed();
            change(host, &[nic(NIC, 0, &[HARMLESS], 1400)]).await.unwrap();
        });
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn what_did_not_work_before_is_not_asked_for_and_what_works_is_asked_once_for_each_change() {
    World::with(|world| {
        world.plug(NIC, "ens5");
        let wanted = |last: u8| [nic(NIC, 0, &[format!("192.0.2.{last}/24").as_str()], 1450)];
        let (asked, reach) = source(0..u32::MAX);
        world.host_with(hasty(world), async |host| {
            host.set_reach(reach);
            // A node that never heard of its gateway, and whose source is away.
            change(host, &wanted(10)).await.unwrap();
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let (asked, reach) = source(0..0);
        world.host_with(hasty(world), async |host| {
            host.set_reach(reach);
            host.source_answered();
            for last in 11..15 {
                change(host, &wanted(last)).await.unwrap();
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    });
}
