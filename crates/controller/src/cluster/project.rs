//! From the ledger to what each sink is to have. Pure: what is published, and where each configuration's is delivered to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use multinic_core::published::{Published, PublishedInterface};
use multinic_core::{ConfigKey, NodeConfig, NodeName, ServerId};
use multinic_store::Removed;

use super::placement::{Placement, Target};
use crate::sinks::NodeWish;

/// What is known of where a configuration's interfaces are delivered to.
#[derive(Debug, Clone, Copy)]
pub enum Whereabouts<'a> {
    /// This is where.
    Known(&'a Placement),
    /// It is there and cannot be read: its nodes are left as they are everywhere.
    Unknown,
}

/// What each sink is to have.
#[derive(Debug, Default)]
pub struct Projection {
    /// Objects, with a tombstone for each node that has nothing there any more and of which something was taken away.
    pub kubernetes: BTreeMap<Target, Vec<Arc<NodeWish>>>,
    /// By Viola and provider. Its tombstones depend on what it was told.
    pub viola: BTreeMap<(String, String), Vec<Arc<NodeWish>>>,
    /// By provider, empty where a configuration names none, wherever it is delivered.
    pub providers: BTreeMap<String, Vec<Arc<NodeWish>>>,
    /// Nodes of which something was taken away.
    pub losses: BTreeMap<NodeName, Loss>,
    /// Nodes that are left as they are.
    pub skipped: BTreeSet<NodeName>,
}

/// What a node lost, as the ledger has it: the only reason for which a sink removes a node.
#[derive(Debug, Default)]
pub struct Loss {
    /// The server that it was.
    pub server: Option<ServerId>,
    /// Whether it has nothing left at all.
    pub everything: bool,
    /// Where the configurations publish that it lost something of.
    targets: BTreeSet<Target>,
    providers: BTreeSet<String>,
}

impl Loss {
    /// Whether it lost something that is there.
    pub fn concerns_target(&self, target: &Target) -> bool {
        self.everything || self.targets.contains(target)
    }

    /// The same for the records of a provider.
    pub fn concerns_provider(&self, provider: &str) -> bool {
        self.everything || self.providers.contains(provider)
    }
}

/// A row, and where its configuration delivers to.
type Row<'a> = (&'a PublishedInterface, &'a Placement);

/// Works out what each sink is to have. `targets` are all that are known, also those without a node.
pub fn project<'a>(
    published: &Published,
    removed: &[Removed],
    targets: impl IntoIterator<Item = &'a Target>,
    place: impl Fn(&ConfigKey) -> Whereabouts<'a>,
) -> Projection {
    let mut projection = Projection::default();
    for target in targets {
        projection.kubernetes.entry(target.clone()).or_default();
    }
    for Removed { node, owner, server, .. } in removed {
        let loss = projection.losses.entry(node.clone()).or_default();
        loss.server = loss.server.take().or_else(|| server.clone());
        if let Some(Whereabouts::Known(Placement { provider, kubernetes, assumed, .. })) =
            owner.as_ref().map(&place)
        {
            loss.targets.extend(kubernetes.clone());
            loss.providers.extend((!assumed).then(|| provider.clone().unwrap_or_default()));
        }
    }
    let mut nodes: BTreeMap<&NodeName, Vec<&PublishedInterface>> = BTreeMap::new();
    for row in &published.interfaces {
        nodes.entry(&row.node).or_default().push(row);
    }
    for (node, loss) in &mut projection.losses {
        loss.everything = !nodes.contains_key(node);
    }
    for (node, rows) in nodes {
        let placed: Option<Vec<Row<'_>>> = rows
            .iter()
            .map(|row| match place(&row.owner) {
                // A row of an older program that lacks a part: without it the node would seem to have lost a NIC.
                Whereabouts::Known(placement) if row.interface().is_some() && row.slot.is_some() => {
                    Some((*row, placement))
                }
                Whereabouts::Known(_) | Whereabouts::Unknown => None,
            })
            .collect();
        let Some(placed) = placed else {
            projection.skipped.insert(node.clone());
            continue;
        };
        let mut targets: BTreeMap<&Target, Vec<Row<'_>>> = BTreeMap::new();
        let mut violas: BTreeMap<(&str, &str), Vec<Row<'_>>> = BTreeMap::new();
        let mut providers: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
        let mut provider_of: BTreeMap<&Target, &str> = BTreeMap::new();
        for row in placed {
            let Placement { provider, kubernetes, viola, assumed, .. } = row.1;
            let provider = provider.as_deref();
            if let Some(target) = kubernetes {
                targets.entry(target).or_default().push(row);
                if let Some(provider) = provider {
                    provider_of.entry(target).or_insert(provider);
                }
            }
            if let Some(viola) = viola {
                violas.entry((&viola.id, provider.unwrap_or_default())).or_default().push(row);
            }
            if !assumed {
                providers.entry(provider.unwrap_or_default()).or_default().push(row);
            }
        }
        let mut shared = Shared::default();
        for (target, rows) in targets {
            let wish = shared.wish(node, rows, provider_of.get(target).copied());
            projection.kubernetes.entry(target.clone()).or_default().push(wish);
        }
        for ((id, provider), rows) in violas {
            let wish = shared.wish(node, rows, Some(provider));
            projection.viola.entry((id.to_owned(), provider.to_owned())).or_default().push(wish);
        }
        for (provider, rows) in providers {
            let wish = shared.wish(node, rows, Some(provider));
            projection.providers.entry(provider.to_owned()).or_default().push(wish);
        }
    }
    let Projection { kubernetes, losses, skipped, .. } = &mut projection;
    for (target, wishes) in kubernetes {
        let there: BTreeSet<NodeName> = wishes.iter().map(|wish| wish.config.node.clone()).collect();
        let gone = losses.iter().filter(|(node, loss)| {
            loss.concerns_target(target) && !there.contains(*node) && !skipped.contains(*node)
        });
        wishes.extend(gone.map(|(node, loss)| tombstone(node, loss.server.as_ref(), None)));
    }
    projection
}

/// A node that has lost its last NIC.
pub fn tombstone(node: &NodeName, server: Option<&ServerId>, provider: Option<&str>) -> Arc<NodeWish> {
    Arc::new(NodeWish {
        provider: provider.map(str::to_owned),
        config: NodeConfig {
            node: node.clone(),
            instance: server.cloned().unwrap_or_else(|| ServerId::from("")),
            interfaces: BTreeMap::new(),
        },
        owners: BTreeMap::new(),
        options: BTreeMap::new(),
    })
}

/// One wish for all places that are to have the same.
#[derive(Default)]
struct Shared<'a>(Vec<(Vec<Row<'a>>, Arc<NodeWish>)>);

impl<'a> Shared<'a> {
    fn wish(&mut self, node: &NodeName, rows: Vec<Row<'a>>, provider: Option<&str>) -> Arc<NodeWish> {
        let provider = provider.filter(|provider| !provider.is_empty());
        let same = |known: &&(Vec<Row<'_>>, Arc<NodeWish>)| {
            known.1.provider.as_deref() == provider
                && known.0.len() == rows.len()
                && known.0.iter().zip(&rows).all(|(known, row)| std::ptr::eq(known.0, row.0))
        };
        if let Some((_, wish)) = self.0.iter().find(same) {
            return Arc::clone(wish);
        }
        let wish = Arc::new(wish(node, &rows, provider));
        self.0.push((rows, Arc::clone(&wish)));
        wish
    }
}

fn wish(node: &NodeName, rows: &[Row<'_>], provider: Option<&str>) -> NodeWish {
    let mut options = BTreeMap::new();
    let mut interfaces = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for (row, placement) in rows {
        if let (Some(slot), Some(interface)) = (row.slot, row.interface()) {
            let said = placement.options.of(interface);
            if !said.is_empty() {
                options.insert(row.port().clone(), said.clone());
            }
            interfaces.insert(slot, Arc::clone(interface));
            owners.insert(row.port().clone(), row.owner.clone());
        }
    }
    let instance = interfaces.values().next().map(|interface| interface.device.clone());
    NodeWish {
        provider: provider.map(str::to_owned),
        config: NodeConfig {
            node: node.clone(),
            instance: instance.unwrap_or_else(|| ServerId::from("")),
            interfaces,
        },
        owners,
        options,
    }
}

#[cfg(test)]
mod tests {
    use multinic_core::published::{PartialNic, PublishedNic};
    use multinic_core::{Addresses, Interface, MacAddr, Mtu, Slot};
    use multinic_store::{Reached, RemovalId};

    use super::*;

    fn row(node: &str, owner: &str, n: u8, whole: bool) -> PublishedInterface {
        let mac = MacAddr::from_bytes([0xfa, 0x16, 0x3e, 0, 0, n]).unwrap();
        let interface = Interface {
            mac,
            port: format!("port-{n}").into(),
            network: "net".into(),
            subnet: "sub".into(),
            device: format!("server-{node}").into(),
            addresses: Addresses::parse([format!("10.0.0.{n}/24").as_str()]).unwrap(),
            cidr: "10.0.0.0/24".parse().unwrap(),
            mtu: Mtu::new(1450).unwrap(),
        };
        let nic = if whole {
            PublishedNic::Whole(Arc::new(interface))
        } else {
            let Interface { port, subnet, device, .. } = interface;
            PublishedNic::Partial(Box::new(PartialNic {
                mac,
                port,
                network: None,
                subnet,
                device: Some(device),
            }))
        };
        PublishedInterface {
            node: node.parse().unwrap(),
            owner: ConfigKey::new("default", owner),
            slot: Slot::new(n.into()).ok(),
            verified: None,
            project: None,
            nic,
        }
    }

    fn target(namespace: &str) -> Target {
        Target { kubeconfig: None, namespace: namespace.to_owned() }
    }

    fn removed(node: &str, owner: &str) -> Removed {
        Removed {
            id: RemovalId::default(),
            node: node.parse().unwrap(),
            mac: MacAddr::from_bytes([0xfa, 0x16, 0x3e, 1, 0, 0]).unwrap(),
            owner: Some(ConfigKey::new("default", owner)),
            server: Some("server-gone".into()),
            project: None,
            released: false,
            delivered: Reached::Places(BTreeSet::new()),
        }
    }

    fn of(rows: Vec<PublishedInterface>, removals: &[Removed]) -> Vec<(String, String, usize)> {
        let published = Published { interfaces: rows, ..Published::default() };
        let (one, two) = (
            Placement { kubernetes: Some(target("one")), ..Placement::default() },
            Placement { kubernetes: Some(target("two")), ..Placement::default() },
        );
        let targets = [target("one"), target("two")];
        let projection = project(&published, removals, &targets, |key| match &*key.name {
            "one" => Whereabouts::Known(&one),
            "two" => Whereabouts::Known(&two),
            _ => Whereabouts::Unknown,
        });
        let all = projection.kubernetes.into_iter().flat_map(|(target, wishes)| {
            wishes.into_iter().map(move |wish| {
                (target.namespace.clone(), wish.config.node.to_string(), wish.config.interfaces.len())
            })
        });
        all.collect()
    }

    fn line(namespace: &str, node: &str, count: usize) -> (String, String, usize) {
        (namespace.to_owned(), node.to_owned(), count)
    }

    #[test]
    fn each_sink_has_what_its_configurations_publish() {
        let rows = vec![row("w1", "one", 1, true), row("w1", "two", 2, true), row("w2", "one", 3, true)];
        assert_eq!(of(rows, &[]), [line("one", "w1", 1), line("one", "w2", 1), line("two", "w1", 1)]);
    }

    #[test]
    fn options_of_a_configuration_go_with_its_nics_and_make_another_wish() {
        let wished = |options: &str| {
            let all = serde_json::from_str(options).unwrap();
            let options = multinic_core::config::OptionRules { all, some: Vec::new() };
            let one = Placement { kubernetes: Some(target("one")), options, ..Placement::default() };
            let two = Placement { kubernetes: Some(target("one")), ..Placement::default() };
            let rows = vec![row("w1", "one", 1, true), row("w1", "two", 2, true)];
            let published = Published { interfaces: rows, ..Published::default() };
            let place = |key: &ConfigKey| Whereabouts::Known(if &*key.name == "one" { &one } else { &two });
            project(&published, &[], &[], place).kubernetes.remove(&target("one")).unwrap().remove(0)
        };
        let wish = wished(r#"{"rpFilter": "loose"}"#);
        assert_eq!(wish.options.keys().map(ToString::to_string).collect::<Vec<_>>(), ["port-1"]);
        assert!(wished("{}").options.is_empty());
        assert_ne!(wish.fingerprint(), wished("{}").fingerprint());
    }

    #[test]
    fn a_node_goes_where_it_lost_something_and_has_nothing_left_and_nowhere_else() {
        let rows = vec![row("w1", "one", 1, true)];
        assert_eq!(
            of(rows.clone(), &[]),
            [line("one", "w1", 1)],
            "that two has no node is no reason to remove one"
        );
        let gone = [removed("w1", "two"), removed("w9", "two")];
        let expected =
            [line("one", "w1", 1), line("one", "w9", 0), line("two", "w1", 0), line("two", "w9", 0)];
        assert_eq!(of(rows.clone(), &gone), expected);
        // A configuration that publishes elsewhere now lost nothing there.
        assert_eq!(of(rows, &[removed("w1", "one")]), [line("one", "w1", 1)]);
    }

    #[test]
    fn a_node_of_which_something_cannot_be_read_stays_as_it_is() {
        for other in [row("w1", "unreadable", 2, true), row("w1", "one", 2, false)] {
            let rows = vec![row("w1", "one", 1, true), other, row("w2", "one", 3, true)];
            assert_eq!(of(rows, &[removed("w1", "one")]), [line("one", "w2", 1)]);
        }
    }
}
