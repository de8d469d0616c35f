//! Which events of the kernel mean something to us. A node's pods make and remove links all day; looking at the whole
//! node for each of them would cost more than all the work that is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt;
use multinic_core::node::observed::{Found, Link, Observed};
use multinic_core::{InterfaceName, MacAddr, Vlan};
use multinic_host::netlink::events::{Event, Events, Process};

/// The pause after events could not be received: what fails once fails often.
const PAUSE: Duration = Duration::from_secs(5);

/// The events, and what they have to be about.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    about: About,
}

#[derive(Debug, Default)]
struct About {
    macs: BTreeSet<MacAddr>,
    links: BTreeSet<u32>,
}

impl Watch {
    /// Nothing matters yet.
    pub fn new(events: Events) -> Self {
        Self { events, about: About::default() }
    }

    /// From now on, these MACs matter, and the links that have them.
    pub fn set(&mut self, macs: BTreeSet<MacAddr>, observed: &Observed) {
        let links = macs.iter().flat_map(|mac| match observed.find(*mac) {
            Found::One(link) => vec![link.index],
            Found::None => Vec::new(),
            // Whichever of them changes may leave one.
            Found::Several(names) => {
                names.iter().filter_map(|name| observed.by_name(name)).map(|link| link.index).collect()
            }
        });
        let mut links: BTreeSet<u32> = links.collect();
        let of_ours = |link: &&Link| link.vlan.is_some_and(|vlan| links.contains(&vlan.parent));
        let vlans: Vec<u32> = observed.links.iter().filter(of_ours).map(|link| link.index).collect();
        links.extend(vlans);
        self.about = About { links, macs };
        self.events.keep_hands_on(&self.about.links);
    }

    /// The processes of others that last changed addresses of links that matter.
    pub fn hands(&self) -> BTreeMap<u32, Process> {
        let hands =
            self.about.links.iter().filter_map(|link| Some((*link, self.events.hand_on(*link)?.clone())));
        hands.collect()
    }

    /// Returns when something happened that matters. Nothing is lost if this is dropped while it waits.
    pub async fn relevant(&mut self) {
        loop {
            match self.events.next().await {
                Ok(event) if self.about.concerns(&event) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(error = %error, "events of the kernel cannot be received");
                    tokio::time::sleep(PAUSE).await;
                    return;
                }
            }
        }
        // The look that follows sees everything that happened before it.
        while let Some(Ok(_)) = self.events.next().now_or_never() {}
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
            Event::Link { link, name, mac, up: _ } | Event::LinkGone { link, name, mac } => {
                named(link, name, mac)
            }
            Event::Address { link, net: _ } | Event::AddressGone { link, net: _ } => {
                self.links.contains(link)
            }
            Event::Lost => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(link: u32, name: &str, mac: Option<&str>) -> Event {
        Event::Link { link, name: name.to_owned(), mac: mac.map(|mac| mac.parse().unwrap()), up: true }
    }

    #[test]
    fn a_pod_s_link_means_nothing() {
        let about = About {
            macs: BTreeSet::from(["fa:16:3e:00:00:01".parse().unwrap()]),
            links: BTreeSet::from([7]),
        };
        assert!(!about.concerns(&link(9, "veth1234", Some("6a:00:00:00:00:09"))));
        assert!(!about.concerns(&Event::Address { link: 9, net: "10.0.0.1/24".parse().unwrap() }));
        assert!(about.concerns(&link(9, "ens7", Some("fa:16:3e:00:00:01"))));
        assert!(about.concerns(&link(7, "ens7", None)));
        assert!(about.concerns(&link(9, "multinic4", None)));
        assert!(about.concerns(&link(9, "multinic4.100", None)));
        assert!(about.concerns(&Event::AddressGone { link: 7, net: "10.0.0.1/24".parse().unwrap() }));
        assert!(about.concerns(&Event::Lost));
    }
}
