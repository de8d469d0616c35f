//! Neutron: ports, subnets, networks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::answer::{Answer, Collection, Row};
use super::faults::Twist;
use super::query::Query;
use super::uuid::Uuid;
use super::world::{Index, Network, Port, Role, Subnet, World};

/// Whom Neutron answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub project: Index,
    pub role: Role,
}

/// What is no filter.
const RESERVED: [&str; 6] = ["fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse"];

#[derive(Clone, Copy)]
enum Kind {
    Port,
    Subnet,
    Network,
}

impl Kind {
    /// The collection, the object, its error's name, and the filters.
    fn words(self) -> (&'static str, &'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Port => (
                "ports",
                "port",
                "Port",
                &["id", "network_id", "device_id", "project_id", "tenant_id", "mac_address", "status"],
            ),
            Self::Subnet => (
                "subnets",
                "subnet",
                "Subnet",
                &["id", "name", "network_id", "project_id", "tenant_id", "cidr"],
            ),
            Self::Network => ("networks", "network", "Network", &["id", "name", "project_id", "tenant_id"]),
        }
    }
}

/// Answers what is below `/v2.0`.
pub(super) fn answer(
    world: &World,
    caller: Caller,
    base: &str,
    path: &[&str],
    query: &Query,
    twist: Twist,
) -> Answer {
    let not_found = || Answer::neutron(404, "HTTPNotFound", "The resource could not be found.");
    let (kind, id) = match path {
        ["ports", id @ ..] => (Kind::Port, id),
        ["subnets", id @ ..] => (Kind::Subnet, id),
        ["networks", id @ ..] => (Kind::Network, id),
        _ => return not_found(),
    };
    match id {
        [] => list(world, caller, base, kind, query, twist),
        [id] => get(world, caller, kind, id, query),
        _ => not_found(),
    }
}

fn get(world: &World, caller: Caller, kind: Kind, text: &str, query: &Query) -> Answer {
    let (_, object, name, _) = kind.words();
    let id = text.parse::<Uuid>().ok().filter(|id| visible(world, caller, kind, *id));
    let Some(id) = id else {
        let message = format!("{name} {text} could not be found.");
        return Answer::neutron(404, &format!("{name}NotFound"), &message);
    };
    Answer::ok(json!({ object: row(world, kind, id, &query.all("fields").collect()) }))
}

fn list(world: &World, caller: Caller, base: &str, kind: Kind, query: &Query, twist: Twist) -> Answer {
    let (name, _, object, filters) = kind.words();
    let keys = query.keys();
    let strange: Vec<&&str> =
        keys.iter().filter(|key| !filters.contains(key) && !RESERVED.contains(key)).collect();
    if !strange.is_empty() {
        let list = strange.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ");
        let message = format!("[{list}] is invalid attribute for filtering");
        return Answer::neutron(400, "HTTPBadRequest", &message);
    }
    let mut ids = candidates(world, kind, query);
    ids.retain(|id| visible(world, caller, kind, *id) && passes(world, kind, *id, query));
    let collection =
        Collection { name, url: format!("{base}/v2.0/{name}"), query, twist, most: world.page_limit };
    let fields = query.all("fields").collect();
    collection.page(
        ids,
        |id| row(world, kind, id, &fields),
        |marker| {
            let message = format!("{object} {marker} could not be found.");
            Answer::neutron(404, &format!("{object}NotFound"), &message)
        },
        |limit| {
            let message =
                format!("Bad limit request: Limit must be an integer 0 or greater and not '{limit}'.");
            Answer::neutron(400, "BadRequest", &message)
        },
    )
}

/// What can pass the filters at all, in order of ids. A fleet's ports are found by their servers.
fn candidates(world: &World, kind: Kind, query: &Query) -> Vec<Uuid> {
    let ids: BTreeSet<Uuid> = match kind {
        Kind::Port if query.first("device_id").is_some_and(|id| !id.is_empty()) => query
            .all("device_id")
            .filter_map(|id| world.servers.get(&id.parse().ok()?))
            .flat_map(|server| server.ports.iter().copied())
            .collect(),
        _ if query.first("id").is_some() => query.all("id").filter_map(|id| id.parse().ok()).collect(),
        Kind::Port => return world.ports.keys().copied().collect(),
        Kind::Subnet => return world.subnets.keys().copied().collect(),
        Kind::Network => return world.networks.keys().copied().collect(),
    };
    ids.into_iter().collect()
}

fn passes(world: &World, kind: Kind, id: Uuid, query: &Query) -> bool {
    let owned = |project: Index| {
        let project = world.project_id(project);
        query.passes("project_id", project) && query.passes("tenant_id", project)
    };
    query.passes("id", &id.to_string())
        && match kind {
            Kind::Port => world.ports.get(&id).is_some_and(|port| {
                owned(port.owner())
                    && query.passes("network_id", &port.network.to_string())
                    && query.passes("device_id", &port.device_id())
                    && query.passes("mac_address", &port.mac_address())
                    && query.passes("status", &port.status)
            }),
            Kind::Subnet => world.subnets.get(&id).is_some_and(|subnet| {
                owned(subnet.project)
                    && query.passes("name", &subnet.name)
                    && query.passes("network_id", &subnet.network.to_string())
                    && query.passes("cidr", &subnet.cidr.to_string())
            }),
            Kind::Network => world
                .networks
                .get(&id)
                .is_some_and(|network| owned(network.project) && query.passes("name", &network.name)),
        }
}

/// A project sees its own, what is shared, and every port on its own networks; an administrator sees all.
fn visible(world: &World, caller: Caller, kind: Kind, id: Uuid) -> bool {
    let all = caller.role == Role::Admin;
    let network = |id: &Uuid| world.networks.get(id);
    match kind {
        Kind::Port => world.ports.get(&id).is_some_and(|port| {
            let on_own = network(&port.network).is_some_and(|network| network.project == caller.project);
            all || port.owner() == caller.project || on_own
        }),
        Kind::Subnet => world.subnets.get(&id).is_some_and(|subnet| {
            all || subnet.project == caller.project
                || network(&subnet.network).is_some_and(|network| network.shared)
        }),
        Kind::Network => {
            network(&id).is_some_and(|network| all || network.project == caller.project || network.shared)
        }
    }
}

fn row(world: &World, kind: Kind, id: Uuid, fields: &BTreeSet<&str>) -> Value {
    let mut row = Row::new(fields);
    row.put("id", || id.to_string());
    match kind {
        Kind::Port => {
            if let Some(port) = world.ports.get(&id) {
                port_row(world, port, &mut row);
            }
        }
        Kind::Subnet => {
            if let Some(subnet) = world.subnets.get(&id) {
                subnet_row(world, subnet, &mut row);
            }
        }
        Kind::Network => {
            if let Some(network) = world.networks.get(&id) {
                network_row(world, id, network, &mut row);
            }
        }
    }
    row.finish(world.distortions.get(&id))
}

fn port_row(world: &World, port: &Port, row: &mut Row<'_>) {
    let ips = || {
        let ip = |(subnet, ip): &(Uuid, std::net::IpAddr)| json!({"subnet_id": subnet.to_string(), "ip_address": ip.to_string()});
        port.fixed_ips.iter().map(ip).collect::<Vec<_>>()
    };
    row.put("name", || "")
        .put("network_id", || port.network.to_string())
        .put("project_id", || world.project_id(port.owner()))
        .put("tenant_id", || world.project_id(port.owner()))
        .put("mac_address", || port.mac_address())
        .put("admin_state_up", || true)
        .put("status", || &*port.status)
        .put("device_id", || port.device_id())
        .put("device_owner", || if port.device.is_some() { "compute:nova" } else { "" })
        .put("fixed_ips", ips)
        .put("allowed_address_pairs", || json!([]))
        .put("extra_dhcp_opts", || json!([]))
        .put("security_groups", || json!([]))
        .put("description", || "")
        .put("binding:vnic_type", || "normal")
        .put("port_security_enabled", || true)
        .put("tags", || json!([]))
        .put("created_at", || seconds(port.created_at))
        .put("updated_at", || seconds(port.updated_at))
        .put("revision_number", || port.revision);
}

fn subnet_row(world: &World, subnet: &Subnet, row: &mut Row<'_>) {
    let version = || if subnet.cidr.addr().is_ipv4() { 4 } else { 6 };
    row.put("name", || subnet.name.as_str())
        .put("project_id", || world.project_id(subnet.project))
        .put("tenant_id", || world.project_id(subnet.project))
        .put("network_id", || subnet.network.to_string())
        .put("ip_version", version)
        .put("enable_dhcp", || true)
        .put("cidr", || subnet.cidr.to_string())
        .put("host_routes", || json!([]))
        .put("dns_nameservers", || json!([]))
        .put("description", || "")
        .put("tags", || json!([]))
        .put("revision_number", || 0);
}

fn network_row(world: &World, id: Uuid, network: &Network, row: &mut Row<'_>) {
    let subnets = || {
        let of_it = world.subnets.iter().filter(|(_, subnet)| subnet.network == id);
        of_it.map(|(id, _)| Value::from(id.to_string())).collect::<Vec<_>>()
    };
    row.put("name", || network.name.as_str())
        .put("project_id", || world.project_id(network.project))
        .put("tenant_id", || world.project_id(network.project))
        .put("admin_state_up", || true);
    // A cloud without the extension leaves the key out.
    if let Some(mtu) = network.mtu {
        row.put("mtu", || mtu);
    }
    row.put("status", || "ACTIVE")
        .put("subnets", subnets)
        .put("shared", || network.shared)
        .put("router:external", || false)
        .put("description", || "")
        .put("tags", || json!([]))
        .put("revision_number", || 1);
}

/// Neutron writes whole seconds.
fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Port {
    fn owner(&self) -> Index {
        usize::try_from(self.project).unwrap_or(usize::MAX)
    }

    fn device_id(&self) -> String {
        self.device.map(|id| id.to_string()).unwrap_or_default()
    }

    pub(super) fn mac_address(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}
