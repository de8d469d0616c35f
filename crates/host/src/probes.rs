//! What works on a node before a change must work after it: the node's own addresses, its default routes with their
//! gateways, and the way to the source of the desired state.
//!
//! What did not work before is not asked for: nobody is blamed for it. When all is well this costs one answer of each
//! gateway and one of the source, all asked for at the same time.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use multinic_core::node::observed::{LinkAddress, Route};
use tokio::time::Instant;

use crate::netlink::{LinkRef, Neighbour, Netlink, NetlinkError};

/// How long something must fail before it counts as cut: an answer or two may be lost, and a server may be starting anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what was not asked for a while may take to show that it works.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// What was found to work counts as working for so long.
const FRESH: Duration = Duration::from_secs(10);
/// The source is read every half a minute or so.
const FRESH_SOURCE: Duration = Duration::from_secs(60);
/// Between two looks at a neighbour that is being asked: it answers within a millisecond, or not at all.
const GLANCE: Duration = Duration::from_millis(1);
/// Between two rounds of what failed.
const PAUSE: Duration = Duration::from_millis(250);

type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// How the source of the desired state is asked whether it can be reached.
#[derive(Clone)]
pub struct Reach {
    name: String,
    ask: Arc<dyn Fn() -> Answer + Send + Sync>,
}

impl Reach {
    /// `name` is for people, such as `mysql://db:3306`. What `ask` makes sets itself a time limit of some seconds.
    pub fn new<F>(name: impl Into<String>, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name: name.into(), ask: Arc::new(move || Box::pin(ask())) }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reach").field(&self.name).finish()
    }
}

/// Something that works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Probe {
    /// The node has this address.
    Address(IpAddr),
    /// The node has this default route, and its gateway is reached by that link.
    Gateway { route: Route, neighbour: bool },
    /// The source answers.
    Source,
}

/// The probes of a node, and what is known of them.
#[derive(Debug)]
pub(crate) struct Probes {
    /// How the source is asked.
    pub reach: Option<Reach>,
    /// How long all of it may take after a change.
    limit: Duration,
    source_answered: Option<Instant>,
    working: Option<(Instant, Works)>,
}

/// What worked before a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Works(BTreeSet<Probe>);

/// What does not work any more, in words.
pub(crate) type Lost = Vec<String>;

impl Probes {
    /// Nothing is known yet. `limit`: how long all of it may take after a change.
    pub fn new(limit: Duration) -> Self {
        Self { reach: None, limit, source_answered: None, working: None }
    }

    /// The source was just read.
    pub fn source_answered(&mut self) {
        self.source_answered = Some(Instant::now());
    }

    /// The source could not be read.
    pub fn source_failed(&mut self) {
        self.source_answered = None;
        self.forget();
    }

    /// What is known is forgotten.
    pub fn forget(&mut self) {
        self.working = None;
    }

    /// What works now.
    pub async fn works(
        &mut self,
        netlink: &Netlink,
        node_addresses: &BTreeSet<IpAddr>,
    ) -> Result<Works, NetlinkError> {
        if let Some((_, works)) = self.working.as_ref().filter(|(since, _)| since.elapsed() < FRESH) {
            return Ok(works.clone());
        }
        let addresses = netlink.addresses()?;
        let mut works: BTreeSet<Probe> = node_addresses
            .iter()
            .filter(|own| has(&addresses, **own))
            .map(|own| Probe::Address(*own))
            .collect();
        let (routes, _) = netlink.routes()?;
        for route in routes.into_iter().filter(Route::is_default) {
            works.extend(gateway(netlink, route).await?);
        }
        let fresh = self.source_answered.is_some_and(|at| at.elapsed() < FRESH_SOURCE);
        if let Some(reach) = &self.reach
            && (fresh || matches!(tokio::time::timeout(FIRST_ANSWER, (reach.ask)()).await, Ok(Ok(()))))
        {
            works.insert(Probe::Source);
        }
        let works = Works(works);
        self.working = Some((Instant::now(), works.clone()));
        Ok(works)
    }

    /// Asks the gateways, whose answers then come while something else is done.
    pub fn begin(works: &Works, changed: Option<u32>, netlink: &Netlink) {
        for probe in works.without(changed) {
            if let Probe::Gateway { route, neighbour: true } = probe
                && let Some(gateway) = route.gateway
            {
                // Whether it answers is looked at afterwards.
                let _ = netlink.ask_neighbour(&link_of(route), gateway);
            }
        }
    }

    /// Whether what worked still works, but for what leaves by the link that was changed.
    pub async fn still(
        &mut self,
        works: &Works,
        changed: Option<u32>,
        netlink: &Netlink,
    ) -> Result<(), Lost> {
        let deadline = Instant::now() + PATIENCE.min(self.limit);
        let source = works.0.contains(&Probe::Source);
        let ways = works.ways_until(deadline, changed, netlink);
        let reach = self.reach.as_ref().filter(|_| source);
        let asked = async {
            let Some(reach) = reach else { return Ok(()) };
            until(deadline, async || {
                let limit = deadline.saturating_duration_since(Instant::now()).max(FIRST_ANSWER);
                let answer = tokio::time::timeout(limit, (reach.ask)()).await;
                let failed = |why: String| vec![format!("{} cannot be reached: {why}", reach.name)];
                answer.map_err(|_| failed("no answer in time".to_owned()))?.map_err(failed)
            })
            .await
        };
        let (ways, asked) = tokio::join!(ways, asked);
        let lost: Lost = [ways.err(), asked.err()].into_iter().flatten().flatten().collect();
        if lost.is_empty() {
            if source {
                self.source_answered();
            }
            if let Some((since, _)) = &mut self.working {
                *since = Instant::now();
            }
            return Ok(());
        }
        self.source_failed();
        Err(lost)
    }

    /// Whether the node's own addresses and gateways, which worked, still do after the source was waited for.
    pub async fn ways_still(
        &mut self,
        works: &Works,
        changed: Option<u32>,
        netlink: &Netlink,
    ) -> Result<(), Lost> {
        let still = works.ways_until(Instant::now() + PATIENCE.min(self.limit), changed, netlink).await;
        still.inspect_err(|_| self.forget())
    }
}

impl Works {
    /// What leaves by the link that is changed is not asked for: that it changes is what was wished.
    fn without(&self, changed: Option<u32>) -> impl Iterator<Item = &Probe> {
        let over = move |probe: &Probe| match probe {
            Probe::Gateway { route, .. } => Some(route.link) == changed,
            Probe::Address(_) | Probe::Source => false,
        };
        self.0.iter().filter(move |probe| !over(probe))
    }

    /// Waits until everything but the source works, or the time is over.
    async fn ways_until(
        &self,
        deadline: Instant,
        changed: Option<u32>,
        netlink: &Netlink,
    ) -> Result<(), Lost> {
        let mut left: Vec<&Probe> = self.without(changed).filter(|probe| **probe != Probe::Source).collect();
        until(deadline, async || ways(&mut left, netlink).await).await
    }
}

/// Tries until it works or the time is over.
async fn until(deadline: Instant, mut ask: impl AsyncFnMut() -> Result<(), Lost>) -> Result<(), Lost> {
    loop {
        match ask().await {
            Ok(()) => return Ok(()),
            Err(lost) if Instant::now() >= deadline => return Err(lost),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn has(addresses: &[LinkAddress], own: IpAddr) -> bool {
    addresses.iter().any(|address| address.net.addr() == own)
}

/// A default route as something that works, if it does.
async fn gateway(netlink: &Netlink, route: Route) -> Result<Option<Probe>, NetlinkError> {
    let Some(address) = route.gateway else { return Ok(None) };
    if !leaves_by(netlink, &route, address)? {
        return Ok(None);
    }
    let mut standing = netlink.neighbour(route.link, address)?;
    if standing == Neighbour::Known {
        netlink.ask_neighbour(&link_of(&route), address)?;
        let deadline = Instant::now() + FIRST_ANSWER;
        while standing == Neighbour::Known && Instant::now() < deadline {
            tokio::time::sleep(GLANCE).await;
            standing = netlink.neighbour(route.link, address)?;
        }
    }
    let neighbour = match standing {
        Neighbour::Answers => true,
        Neighbour::Set => false,
        Neighbour::Known | Neighbour::Unknown => return Ok(None),
    };
    Ok(Some(Probe::Gateway { route, neighbour }))
}

fn link_of(route: &Route) -> LinkRef {
    LinkRef { index: route.link, name: "link".to_owned() }
}

/// Whether a gateway is reached by the link of its route. For one that is valid on a link only, that is not a question.
fn leaves_by(netlink: &Netlink, route: &Route, gateway: IpAddr) -> Result<bool, NetlinkError> {
    let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    Ok(link_local || netlink.route_to(gateway)? == Some(route.link))
}

/// Goes through what is not known to work yet, and leaves what does not.
async fn ways(left: &mut Vec<&Probe>, netlink: &Netlink) -> Result<(), Lost> {
    let (addresses, routes) = match (netlink.addresses(), netlink.routes()) {
        (Ok(addresses), Ok((routes, _))) => (addresses, routes),
        (Err(error), _) | (_, Err(error)) => return Err(vec![error.to_string()]),
    };
    let mut lost = Vec::new();
    let mut still = Vec::new();
    for probe in left.drain(..) {
        let fault = match probe {
            Probe::Address(own) => {
                (!has(&addresses, *own)).then(|| format!("the node's address {own} is gone"))
            }
            Probe::Gateway { route, neighbour } => {
                fault_of_gateway(netlink, &routes, route, *neighbour).await
            }
            Probe::Source => None,
        };
        if let Some(fault) = fault {
            lost.push(fault);
            still.push(probe);
        }
    }
    *left = still;
    if lost.is_empty() { Ok(()) } else { Err(lost) }
}

async fn fault_of_gateway(
    netlink: &Netlink,
    routes: &[Route],
    route: &Route,
    neighbour: bool,
) -> Option<String> {
    let address = route.gateway?;
    if !routes.contains(route) {
        return Some(format!("the default route by {address} is gone"));
    }
    match leaves_by(netlink, route, address) {
        Ok(true) => {}
        Ok(false) => return Some(format!("the gateway {address} is not reached by its own link any more")),
        Err(error) => return Some(error.to_string()),
    }
    if !neighbour {
        return None;
    }
    let deadline = Instant::now() + FIRST_ANSWER;
    loop {
        match netlink.neighbour(route.link, address) {
            Ok(Neighbour::Answers | Neighbour::Set) => return None,
            Ok(Neighbour::Known) if Instant::now() < deadline => tokio::time::sleep(GLANCE).await,
            Ok(Neighbour::Known) => break,
            // Nobody asks it by itself.
            Ok(Neighbour::Unknown) => {
                if let Err(error) = netlink.ask_neighbour(&link_of(route), address) {
                    return Some(error.to_string());
                }
                break;
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    Some(format!("the gateway {address} does not answer"))
}
