//! Taking away what was left at a place, each place a task of its own: it looks at what is there and takes leave node by
//! node, each only while it stands at its new place.
//!
//! While that is under way, nothing is delivered to the place for the nodes that it may take away. Where the terms change on
//! which it was begun (who left, where they publish now, the ledger's word), it ends what it has begun and begins no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use multinic_core::{ConfigKey, NodeName};

use super::lease::Leadership;
use super::leave::{Leave, Leaver, Remains, Rest, Stop, carry_out};
use super::placement::Location;
use super::rounds::{Again, Place};
use crate::errands::{Errands, TURN};
use crate::sinks::SinkError;

/// A place that was left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    pub location: Location,
    /// Who left it, where that matters for how it is spoken to: behind Viola.
    pub whose: Option<ConfigKey>,
}

/// What a farewell depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Who left, and where each publishes now.
    pub by: BTreeMap<ConfigKey, BTreeSet<Location>>,
    /// How often the ledger turned out to be older than it was.
    pub setbacks: u64,
}

/// Farewells that are under way, and what is known of the places.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    errands: Errands<Left, Left, Result<Remains, SinkError>>,
    known: BTreeMap<Left, Known>,
}

/// What is known of a place that was left.
#[derive(Debug)]
struct Known {
    terms: Terms,
    /// Nodes that have something there, with whose that is; none before it was looked at.
    there: Option<BTreeMap<NodeName, BTreeSet<ConfigKey>>>,
    /// Nodes that were taken away.
    gone: BTreeSet<NodeName>,
    /// Those that were tried and are still there.
    tried: BTreeMap<NodeName, (Rest, Again)>,
    /// Why nothing is known of it, or nobody answers there.
    failed: Option<(SinkError, Again)>,
    running: Option<Running>,
}

/// A farewell that is under way.
#[derive(Debug)]
struct Running {
    /// What it may take away.
    nodes: BTreeSet<NodeName>,
    stop: Stop,
    /// Whether its terms are no longer those of now.
    outdated: bool,
}

/// How it stands with a place that was left.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// It is being looked at, or something is being taken away there.
    UnderWay,
    /// It could not be looked at.
    Failed(&'a SinkError),
    /// What is still there.
    Seen(BTreeMap<&'a NodeName, (&'a BTreeSet<ConfigKey>, &'a Rest)>),
}

impl Farewells {
    /// Takes in what has been left, on which terms.
    pub fn adjust(&mut self, left: &BTreeMap<Left, Terms>) {
        self.known.retain(|place, known| {
            if left.get(place) == Some(&known.terms) {
                return true;
            }
            let Some(running) = &mut known.running else { return false };
            running.stop.send_replace(true);
            running.outdated = true;
            true
        });
        for (place, terms) in left {
            self.known.entry(place.clone()).or_insert_with(|| Known::new(terms.clone()));
        }
    }

    /// The nodes of which something is known to be there; none before it was looked at.
    pub fn there(&self, place: &Left) -> Option<&BTreeMap<NodeName, BTreeSet<ConfigKey>>> {
        self.known.get(place).filter(|known| !known.is_outdated())?.there.as_ref()
    }

    /// Nodes to which nothing may be delivered at a place: they are being taken away there.
    pub fn held(&self, place: &Place) -> BTreeSet<NodeName> {
        let known = self.known.iter().filter(|(left, _)| place.is_at(&left.location));
        known
            .filter_map(|(_, known)| known.running.as_ref())
            .flat_map(|it| it.nodes.iter().cloned())
            .collect()
    }

    /// Nodes that can be told to have gone from a place without a look at it. Those of which that was told are not among
    /// them any more.
    pub fn tell(&mut self, place: &Left, mut nodes: BTreeMap<NodeName, BTreeSet<ConfigKey>>) {
        if let Some(known) = self.known.get_mut(place) {
            nodes.retain(|node, _| !known.gone.contains(node));
            known.there = Some(nodes);
        }
    }

    /// The nodes whose turn it is, of those that are `settled`; none where nothing is to be done at the place now. `likely`
    /// are those that may be there as long as nobody has looked.
    pub fn due<'a>(
        &self,
        place: &Left,
        likely: impl Iterator<Item = &'a NodeName>,
        settled: impl Fn(&NodeName) -> bool,
    ) -> Option<BTreeSet<NodeName>> {
        let known = self.known.get(place).filter(|known| known.running.is_none())?;
        if known.failed.as_ref().is_some_and(|(_, again)| !again.is_due()) {
            return None;
        }
        let Some(there) = &known.there else {
            return Some(likely.filter(|node| settled(node)).cloned().collect());
        };
        let (mut due, mut look) = (BTreeSet::new(), false);
        for node in there.keys() {
            match known.tried.get(node) {
                Some((_, again)) if !again.is_due() => {}
                Some((Rest::Shared, _)) => look = true,
                Some(_) | None if settled(node) => drop(due.insert(node.clone())),
                Some(_) | None => {}
            }
        }
        (look || !due.is_empty()).then_some(due)
    }

    /// Begins to take nodes away, as long as this process may.
    pub fn begin(
        &mut self,
        place: &Left,
        leave: Leave,
        nodes: BTreeMap<NodeName, Leaver>,
        leadership: &Leadership,
    ) {
        let Some(known) = self.known.get_mut(place) else { return };
        let stop = Stop::default();
        let names = nodes.keys().cloned().collect();
        known.running = Some(Running { nodes: names, stop: Arc::clone(&stop), outdated: false });
        let farewell = leadership.guard(carry_out(leave, nodes, stop));
        self.errands.begin(place.clone(), place.clone(), farewell);
    }

    /// Nothing can be begun at a place.
    pub fn fail(&mut self, place: &Left, error: SinkError, longest: Duration) {
        if let Some(known) = self.known.get_mut(place) {
            tracing::warn!(place = place.location.name(), error = %error, "what was left there cannot be taken away");
            let before = known.failed.as_ref().map(|(_, again)| *again);
            known.failed = Some((error, Again::after(before, longest)));
        }
    }

    /// Where a node is to stand cannot be looked at.
    pub fn refuse(&mut self, place: &Left, node: NodeName, rest: Rest, longest: Duration) {
        if let Some(known) = self.known.get_mut(place) {
            let before = known.tried.get(&node).map(|(_, again)| *again);
            known.tried.insert(node, (rest, Again::after(before, longest)));
        }
    }

    /// Takes in what has come; waits a moment for the rest.
    pub async fn collect(&mut self, longest: Duration) {
        for (place, result) in self.errands.collect(Some(TURN)).await {
            self.settle(&place, result, longest);
        }
    }

    /// Takes in what has come.
    pub fn take(&mut self, longest: Duration) {
        for (place, result) in self.errands.take() {
            self.settle(&place, result, longest);
        }
    }

    /// Returns when something has come that nobody waited for.
    pub async fn come(&mut self) {
        self.errands.come().await;
    }

    fn settle(&mut self, place: &Left, result: Result<Remains, SinkError>, longest: Duration) {
        let Some(known) = self.known.get_mut(place) else { return };
        let Some(Running { nodes: asked, outdated: false, .. }) = known.running.take() else {
            // What it did is seen when it is looked at anew.
            self.known.remove(place);
            return;
        };
        let Remains { nodes, silent } = match result {
            Ok(remains) => remains,
            Err(error) => return self.fail(place, error, longest),
        };
        known.gone.extend(asked.into_iter().filter(|node| !nodes.contains_key(node)));
        let mut seen = BTreeMap::new();
        for (node, (whose, rest)) in nodes {
            let before = known.tried.remove(&node);
            if let Rest::Failed(error) | Rest::Unseen { error, .. } = &rest {
                let place = place.location.name();
                tracing::warn!(node_name = %node, place, error = %error, "a node that moved is not removed");
            }
            let tried = match (rest, before) {
                // Now it is ours alone.
                (Rest::Untried, Some((Rest::Shared, _))) => None,
                (Rest::Untried, before) => before,
                (rest, before) => {
                    let before = before.filter(|(was, _)| was.is_like(&rest)).map(|(_, again)| again);
                    Some((rest, Again::after(before, longest)))
                }
            };
            known.tried.extend(tried.map(|tried| (node.clone(), tried)));
            seen.insert(node, whose);
        }
        match (&place.location, &mut known.there) {
            // Nobody can look behind it.
            (Location::Viola { .. }, Some(there)) => there.retain(|node, _| !known.gone.contains(node)),
            (Location::Viola { .. } | Location::Kubernetes(_), there) => *there = Some(seen),
        }
        let there = known.there.as_ref();
        known.tried.retain(|node, _| there.is_some_and(|there| there.contains_key(node)));
        match silent {
            Some(error) => self.fail(place, error, longest),
            None => known.failed = None,
        }
    }

    /// Tries everything again at once.
    pub fn hurry(&mut self) {
        let now = Instant::now();
        for known in self.known.values_mut() {
            let tried = known.tried.values_mut().map(|(_, again)| again);
            tried.chain(known.failed.as_mut().map(|(_, again)| again)).for_each(|again| again.at = now);
        }
    }

    /// When something is tried again at a place.
    pub fn again(&self, place: &Left) -> Option<Instant> {
        // One that ended on terms that are no longer those of now is taken up anew by the next delivery.
        let Some(known) = self.known.get(place) else { return Some(Instant::now()) };
        match &known.failed {
            _ if known.running.is_some() => None,
            Some((_, again)) => Some(again.at),
            None => known.tried.values().map(|(_, again)| again.at).min(),
        }
    }

    /// How it stands with a place.
    pub fn standing(&self, place: &Left) -> Standing<'_> {
        let Some(known) = self.known.get(place) else { return Standing::UnderWay };
        match (known, &known.there) {
            (Known { running: Some(_), .. }, _) => Standing::UnderWay,
            (Known { failed: Some((error, _)), .. }, _) => Standing::Failed(error),
            (_, None) => Standing::UnderWay,
            (_, Some(there)) => {
                let rest = |node| known.tried.get(node).map_or(&Rest::Untried, |(rest, _)| rest);
                Standing::Seen(there.iter().map(|(node, whose)| (node, (whose, rest(node)))).collect())
            }
        }
    }
}

impl Known {
    fn new(terms: Terms) -> Self {
        let (gone, tried) = (BTreeSet::new(), BTreeMap::new());
        Self { terms, there: None, gone, tried, failed: None, running: None }
    }

    fn is_outdated(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.outdated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::placement::Target;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn key(name: &str) -> ConfigKey {
        ConfigKey::new("default", name)
    }

    fn objects() -> Left {
        let target = Target { kubeconfig: None, namespace: "old".to_owned() };
        Left { location: Location::Kubernetes(target), whose: None }
    }

    fn viola() -> Left {
        let location = Location::Viola { endpoint: "http://old/".to_owned(), provider: "p".to_owned() };
        Left { location, whose: Some(key("a")) }
    }

    fn terms(by: &[&str]) -> Terms {
        Terms { by: by.iter().map(|name| (key(name), BTreeSet::new())).collect(), setbacks: 0 }
    }

    /// A place that was left, where something is being taken away.
    fn under_way(place: &Left, nodes: &[&str]) -> Farewells {
        let mut farewells = Farewells::default();
        farewells.adjust(&BTreeMap::from([(place.clone(), terms(&["a"]))]));
        run(&mut farewells, place, nodes);
        farewells
    }

    fn run(farewells: &mut Farewells, place: &Left, nodes: &[&str]) {
        let nodes = nodes.iter().map(|name| node(name)).collect();
        farewells.known.get_mut(place).unwrap().running =
            Some(Running { nodes, stop: Arc::default(), outdated: false });
    }

    fn remains(nodes: &[(&str, Rest)], silent: bool) -> Result<Remains, SinkError> {
        let whose = || BTreeSet::from([key("a")]);
        let nodes = nodes.iter().map(|(name, rest)| (node(name), (whose(), rest.clone()))).collect();
        Ok(Remains { nodes, silent: silent.then(silence) })
    }

    fn silence() -> SinkError {
        SinkError::NotRead { place: "old".to_owned(), problem: "no answer".to_owned() }
    }

    fn due(farewells: &Farewells, place: &Left, settled: &[&str]) -> Option<Vec<String>> {
        let due = farewells.due(place, [node("likely")].iter(), |node| settled.contains(&node.as_str()));
        due.map(|due| due.iter().map(ToString::to_string).collect())
    }

    fn seen(farewells: &Farewells, place: &Left) -> Option<Vec<String>> {
        match farewells.standing(place) {
            Standing::Seen(there) => Some(there.keys().map(ToString::to_string).collect()),
            Standing::UnderWay | Standing::Failed(_) => None,
        }
    }

    #[test]
    fn nodes_go_when_they_are_settled_and_what_failed_waits() {
        let place = objects();
        let mut farewells = Farewells::default();
        farewells.adjust(&BTreeMap::from([(place.clone(), terms(&["a"]))]));
        assert_eq!(
            due(&farewells, &place, &["likely", "other"]).unwrap(),
            ["likely"],
            "nobody has looked yet"
        );
        run(&mut farewells, &place, &["likely"]);
        assert_eq!(due(&farewells, &place, &["likely"]), None);
        assert_eq!(seen(&farewells, &place), None);
        let failed = Rest::Failed(silence());
        farewells.settle(&place, remains(&[("one", Rest::Untried), ("two", failed)], false), LONG);
        assert_eq!(due(&farewells, &place, &[]), None);
        assert_eq!(due(&farewells, &place, &["one", "two"]).unwrap(), ["one"]);
        assert!(farewells.again(&place).is_some());
        farewells.hurry();
        assert_eq!(due(&farewells, &place, &["one", "two"]).unwrap(), ["one", "two"]);
        run(&mut farewells, &place, &["one", "two"]);
        farewells.settle(&place, remains(&[("one", Rest::Untried)], true), LONG);
        assert_eq!(due(&farewells, &place, &["one"]), None, "nobody answers there");
        farewells.hurry();
        assert_eq!(due(&farewells, &place, &["one"]).unwrap(), ["one"]);
    }

    #[test]
    fn what_others_have_too_goes_once_they_let_go_of_it() {
        let place = objects();
        let mut farewells = under_way(&place, &[]);
        farewells.settle(&place, remains(&[("one", Rest::Shared)], false), LONG);
        assert_eq!(due(&farewells, &place, &["one"]), None);
        farewells.hurry();
        assert_eq!(
            due(&farewells, &place, &["one"]).unwrap(),
            [""; 0],
            "it is looked at, and not taken away"
        );
        run(&mut farewells, &place, &[]);
        farewells.settle(&place, remains(&[("one", Rest::Untried)], false), LONG);
        assert_eq!(due(&farewells, &place, &["one"]).unwrap(), ["one"]);
    }

    #[test]
    fn behind_a_viola_a_node_that_was_not_its_turn_is_still_there() {
        let place = viola();
        let there = || ["one", "two"].map(|name| (node(name), BTreeSet::from([key("a")]))).into();
        let mut farewells = under_way(&place, &["one"]);
        farewells.tell(&place, there());
        farewells.settle(&place, remains(&[], false), LONG);
        assert_eq!(seen(&farewells, &place).unwrap(), ["two"]);
        farewells.tell(&place, there());
        assert_eq!(seen(&farewells, &place).unwrap(), ["two"], "it was told of the other");
    }

    #[test]
    fn on_other_terms_it_ends_and_begins_anew_and_its_nodes_are_held_until_then() {
        let place = objects();
        let mut farewells = under_way(&place, &["one"]);
        let Location::Kubernetes(target) = place.location.clone() else { unreachable!() };
        let held = |farewells: &Farewells| farewells.held(&Place::Kubernetes(target.clone())).len();
        let stop = Arc::clone(&farewells.known[&place].running.as_ref().unwrap().stop);
        farewells.adjust(&BTreeMap::from([(place.clone(), terms(&["a", "b"]))]));
        assert!(*stop.borrow());
        assert_eq!((held(&farewells), due(&farewells, &place, &["one"])), (1, None));
        farewells.settle(&place, remains(&[("one", Rest::Untried)], false), LONG);
        assert_eq!((held(&farewells), seen(&farewells, &place)), (0, None));
        assert!(farewells.again(&place).is_some(), "nothing else would wake the loop");
        farewells.adjust(&BTreeMap::from([(place.clone(), terms(&["a", "b"]))]));
        assert_eq!(due(&farewells, &place, &["likely"]).unwrap(), ["likely"], "nothing of before is known");
    }
}
