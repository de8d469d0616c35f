//! Which events of the kernel mean something to us. A node's pods make and remove links, routes and rules all day; looking at
//! the whole node for each of them would cost more than all the work that is ours. Files that are ours are watched, too.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use multinic_core::node::NicTarget;
use multinic_core::node::observed::{Found, Link, Observed, Route, RouteOrigin};
use multinic_core::node::routing::{MAIN_TABLE, RouteTarget};
use multinic_core::{InterfaceName, MacAddr, Vlan};
use multinic_host::netlink::NetlinkError;
use multinic_host::netlink::events::{Event, Events, Process};
use multinic_host::{FileEvents, FileEventsError, Host};
use tokio::time::{Instant, sleep_until};

/// The pause after events could not be received: what fails once fails often.
const PAUSE: Duration = Duration::from_secs(5);
/// The wait before the look for what a flood of routes hid: while it lasts, the look would be made again and again.
const FLOOD: Duration = Duration::from_secs(5);
/// The wait between the first change of a file and the look: whoever changes one often changes it in several steps, and
/// others with it.
const SETTLE: Duration = Duration::from_millis(100);

/// The events, and what they have to be about.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    /// None where they cannot be watched at the moment, and are looked at with every full pass only.
    files: Option<FileEvents>,
    about: About,
    /// When to look for what a flood hid, or at files.
    look_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct About {
    macs: BTreeSet<MacAddr>,
    links: BTreeSet<u32>,
    /// The routes that are ours, and the tables that are an interface's own.
    routes: Vec<RouteTarget>,
    tables: BTreeSet<u32>,
}

impl Watch {
    /// Nothing matters yet. `moved`: the NICs that went into other network namespaces before.
    pub fn new(
        mut events: Events,
        files: Result<FileEvents, FileEventsError>,
        moved: &BTreeSet<MacAddr>,
    ) -> Self {
        events.went_before(moved);
        let mut watch = Self { events, files: None, about: About::default(), look_at: None };
        match files {
            Ok(files) => watch.files = Some(files),
            Err(error) => warn(&error),
        }
        watch
    }

    /// Watches the directories that are there now. Where that failed, it is tried again each time.
    fn watch_files(&mut self, host: &Host) {
        let failed_before = self.files.is_none();
        let watched = match self.files.take() {
            Some(mut files) => files.arm().map(|others| (files, others)),
            None => host.file_events().map(|files| (files, true)),
        };
        match watched {
            Ok((files, others)) => {
                self.files = Some(files);
                if others {
                    self.look_within(SETTLE);
                }
            }
            Err(_) if failed_before => {}
            Err(error) => self.forget_files(&error),
        }
    }

    /// What happened to a file meanwhile is found by the look that follows.
    fn forget_files(&mut self, error: &FileEventsError) {
        warn(error);
        self.files = None;
        self.look_within(PAUSE);
    }

    fn look_within(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// From now on, these MACs matter, and the links that have them, and the routes and rules of what we configured.
    pub fn set(&mut self, macs: BTreeSet<MacAddr>, host: &Host, observed: &Observed) {
        let links = macs.iter().flat_map(|mac| match observed.find(*mac) {
            Found::One(link) => vec![link.index],
            Found::None => Vec::new(),
            // Whichever of them changes may leave one.
            Found::Several(names) => {
                names.iter().filter_map(|name| observed.by_name(name)).map(|link| link.index).collect()
            }
        });
        let mut links: BTreeSet<u32> = links.collect();
        let of_ours =
            |link: &&Link| link.vlan.is_some() && link.lower.is_some_and(|lower| links.contains(&lower));
        let vlans: Vec<u32> = observed.links.iter().filter(of_ours).map(|link| link.index).collect();
        links.extend(vlans);
        let targets = || host.owned().values().map(|nic| &nic.target);
        self.about = About {
            links,
            macs,
            routes: targets().flat_map(NicTarget::routes).collect(),
            tables: targets().filter_map(|target| Some(target.options.source_routing?.table)).collect(),
        };
        self.events.keep_hands_on(&self.about.links);
        let absent = |mac: &MacAddr| matches!(observed.find(*mac), Found::None);
        self.events.keep_moved(&self.about.macs.iter().copied().filter(absent).collect());
        self.watch_files(host);
    }

    /// The processes of others that last changed addresses of links that matter.
    pub fn hands(&self) -> BTreeMap<u32, Process> {
        let hands =
            self.about.links.iter().filter_map(|link| Some((*link, self.events.hand_on(*link)?.clone())));
        hands.collect()
    }

    /// The NICs that went into other network namespaces. Those that mean nothing are forgotten when it is known what does.
    pub fn moved(&self) -> &BTreeSet<MacAddr> {
        self.events.moved()
    }

    /// Returns when something happened that matters. Nothing is lost if this is dropped while it waits.
    pub async fn relevant(&mut self) {
        loop {
            let heard = tokio::select! {
                biased;
                () = until(self.look_at) => break,
                heard = heard(&mut self.events, &mut self.files) => heard,
            };
            match heard {
                Heard::Kernel(Ok(Event::RoutingLost)) => self.look_within(FLOOD),
                Heard::Kernel(Ok(event)) if self.about.concerns(&event) => break,
                Heard::Kernel(Ok(_)) => {}
                Heard::Kernel(Err(error)) => {
                    tracing::error!(error = %error, "events of the kernel cannot be received");
                    tokio::time::sleep(PAUSE).await;
                    return;
                }
                Heard::Files(Ok(())) => self.look_within(SETTLE),
                Heard::Files(Err(error)) => self.forget_files(&error),
            }
        }
        self.look_at = None;
        // The look that follows sees everything that happened before it.
        while let Some(Ok(_)) = self.events.next().now_or_never() {}
    }
}

fn warn(error: &FileEventsError) {
    tracing::warn!(error = %error, "a changed file is found by the next full pass only");
}

enum Heard {
    Kernel(Result<Event, NetlinkError>),
    Files(Result<(), FileEventsError>),
}

async fn heard(events: &mut Events, files: &mut Option<FileEvents>) -> Heard {
    let changed = async {
        match files {
            Some(files) => files.changed().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        next = events.next() => Heard::Kernel(next),
        changed = changed => Heard::Files(changed),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

impl About {
    fn concerns(&self, event: &Event) -> bool {
        let named = |link: &u32, name: &str, mac: &Option<MacAddr>| {
            self.links.contains(link)
                || mac.is_some_and(|mac| self.macs.contains(&mac))
                // Somebody takes a name of ours, or gives it free.
                || name.parse::<InterfaceName>().is_ok()
                || name.parse::<Vlan>().is_ok()
        };
        match event {
            Event::Link { link, name, mac, up: _ } | Event::LinkGone { link, name, mac, moved: _ } => {
                named(link, name, mac)
            }
            Event::Address { link, net: _ } | Event::AddressGone { link, net: _ } => {
                self.links.contains(link)
            }
            Event::Route(route) => self.concerns_route(route),
            Event::Rule(rule) => self.tables.contains(&rule.table),
            Event::Settings { link } => self.links.contains(link),
            Event::Lost | Event::RoutingLost => true,
        }
    }

    /// A route of ours is told from the pods' by its table, or by where it leads: one that was put in its place may leave by
    /// any link.
    fn concerns_route(&self, route: &Route) -> bool {
        let in_place_of =
            |ours: &RouteTarget| (ours.table, ours.destination) == (route.table, route.destination);
        let by_the_way = route.table == MAIN_TABLE && route.origin != RouteOrigin::Static;
        self.tables.contains(&route.table)
            || self.routes.iter().any(in_place_of)
            // That of an address, which an option may forbid, or that of a lease or a router, which is drift.
            || (by_the_way && self.links.contains(&route.link))
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::node::observed::Rule;

    use super::*;

    /// Of a NIC with source routing, and of one with a route in the main table.
    fn about() -> About {
        let ours = RouteTarget {
            table: MAIN_TABLE,
            destination: "10.8.0.0/16".parse().unwrap(),
            gateway: None,
            metric: 100,
            source: None,
        };
        About {
            macs: BTreeSet::from(["fa:16:3e:00:00:01".parse().unwrap()]),
            links: BTreeSet::from([7]),
            routes: vec![ours],
            tables: BTreeSet::from([103]),
        }
    }

    fn link(link: u32, name: &str, mac: Option<&str>) -> Event {
        Event::Link { link, name: name.to_owned(), mac: mac.map(|mac| mac.parse().unwrap()), up: true }
    }

    fn route(table: u32, link: u32, to: &str, origin: RouteOrigin) -> Event {
        let destination = to.parse().unwrap();
        Event::Route(Route { table, link, destination, gateway: None, metric: 0, source: None, origin })
    }

    fn rule(table: u32) -> Event {
        Event::Rule(Rule { priority: 5, from: None, table, plain: true })
    }

    #[test]
    fn a_pod_s_link_means_nothing() {
        let about = about();
        assert!(!about.concerns(&link(9, "veth1234", Some("6a:00:00:00:00:09"))));
        assert!(!about.concerns(&Event::Address { link: 9, net: "10.0.0.1/24".parse().unwrap() }));
        assert!(about.concerns(&link(9, "ens7", Some("fa:16:3e:00:00:01"))));
        assert!(about.concerns(&link(7, "ens7", None)));
        assert!(about.concerns(&link(9, "multinic4", None)));
        assert!(about.concerns(&link(9, "multinic4.100", None)));
        assert!(about.concerns(&Event::AddressGone { link: 7, net: "10.0.0.1/24".parse().unwrap() }));
        assert!(about.concerns(&Event::Lost));
    }

    #[test]
    fn a_pod_s_route_or_rule_means_nothing_even_over_a_link_of_ours() {
        let about = about();
        assert!(!about.concerns(&route(MAIN_TABLE, 9, "10.244.3.0/24", RouteOrigin::Static)));
        assert!(!about.concerns(&route(MAIN_TABLE, 9, "10.0.0.0/24", RouteOrigin::Kernel)));
        assert!(!about.concerns(&route(MAIN_TABLE, 7, "10.244.3.0/24", RouteOrigin::Static)));
        assert!(!about.concerns(&route(200, 7, "10.244.3.0/24", RouteOrigin::Static)));
        assert!(!about.concerns(&rule(200)));
        assert!(!about.concerns(&Event::Settings { link: 9 }));
    }

    #[test]
    fn what_is_done_to_a_route_rule_or_setting_of_ours_means_something() {
        let about = about();
        assert!(about.concerns(&route(MAIN_TABLE, 7, "10.8.0.0/16", RouteOrigin::Static)));
        assert!(about.concerns(&route(MAIN_TABLE, 9, "10.8.0.0/16", RouteOrigin::Static)));
        assert!(about.concerns(&route(103, 9, "10.9.0.0/16", RouteOrigin::Static)));
        assert!(about.concerns(&route(MAIN_TABLE, 7, "0.0.0.0/0", RouteOrigin::Dynamic)));
        assert!(about.concerns(&rule(103)));
        assert!(about.concerns(&Event::Settings { link: 7 }));
    }
}
