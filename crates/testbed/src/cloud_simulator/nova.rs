//! Nova: servers.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Collection};
use super::faults::Twist;
use super::neutron::Caller;
use super::query::Query;
use super::uuid::Uuid;
use super::world::{Role, Server, World};

/// Nova's `max_limit`.
const MOST: usize = 1000;

/// Answers what is below `/v2.1`.
pub(super) fn answer(
    world: &World,
    caller: Caller,
    base: &str,
    path: &[&str],
    query: &Query,
    twist: Twist,
) -> Answer {
    match path {
        ["servers"] => list(world, caller, base, query, twist, false),
        ["servers", "detail"] => list(world, caller, base, query, twist, true),
        ["servers", id] => get(world, caller, base, id),
        _ => Answer::nova(404, "itemNotFound", "The resource could not be found."),
    }
}

fn get(world: &World, caller: Caller, base: &str, text: &str) -> Answer {
    let found = text.parse::<Uuid>().ok().and_then(|id| Some((id, world.servers.get(&id)?)));
    match found {
        Some((id, server)) if caller.role == Role::Admin || server.project == caller.project => {
            Answer::ok(json!({"server": details(world, base, id, server)}))
        }
        _ => Answer::nova(404, "itemNotFound", &format!("Instance {text} could not be found.")),
    }
}

fn list(world: &World, caller: Caller, base: &str, query: &Query, twist: Twist, detail: bool) -> Answer {
    let everywhere = query.first("all_tenants").is_some_and(|value| value != "0");
    if everywhere && caller.role != Role::Admin {
        let message = "Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed.";
        return Answer::nova(403, "forbidden", message);
    }
    let name = match query.first("name").map(Pattern::parse) {
        Some(None) => {
            let message =
                "this simulator knows literal names, with ^ and $ around them, and no other pattern";
            return Answer::nova(400, "badRequest", message);
        }
        name => name.flatten(),
    };
    let wanted = |server: &Server| {
        (everywhere || server.project == caller.project)
            && name.as_ref().is_none_or(|name| name.matches(&server.name))
    };
    let ids = world.servers.iter().filter(|(_, server)| wanted(server)).map(|(id, _)| *id).collect();
    let url = format!("{base}/v2.1/servers{}", if detail { "/detail" } else { "" });
    let most = Some(world.page_limit.unwrap_or(MOST));
    let collection = Collection { name: "servers", url, query, twist, most };
    let row = |id: Uuid| match world.servers.get(&id) {
        Some(server) if detail => details(world, base, id, server),
        Some(server) => json!({"id": id.to_string(), "name": server.name, "links": links(base, id)}),
        None => Value::Null,
    };
    collection.page(
        ids,
        row,
        |marker| Answer::nova(400, "badRequest", &format!("marker [{marker}] not found")),
        |limit| {
            let message = format!("Invalid input for query parameters limit. Value: {limit}.");
            Answer::nova(400, "badRequest", &message)
        },
    )
}

fn links(base: &str, id: Uuid) -> Value {
    json!([
        {"rel": "self", "href": format!("{base}/v2.1/servers/{id}")},
        {"rel": "bookmark", "href": format!("{base}/servers/{id}")},
    ])
}

fn details(world: &World, base: &str, id: Uuid, server: &Server) -> Value {
    let mut addresses = Map::new();
    for port in server.ports.iter().filter_map(|id| world.ports.get(id)) {
        let network = world.networks.get(&port.network).map_or("", |network| network.name.as_str());
        let list = addresses.entry(network).or_insert_with(|| json!([]));
        for (_, ip) in &port.fixed_ips {
            let address = json!({
                "version": if ip.is_ipv4() { 4 } else { 6 },
                "addr": ip.to_string(),
                "OS-EXT-IPS:type": "fixed",
                "OS-EXT-IPS-MAC:mac_addr": port.mac_address(),
            });
            if let Some(list) = list.as_array_mut() {
                list.push(address);
            }
        }
    }
    let mut row = json!({
        "id": id.to_string(),
        "name": server.name,
        "status": "ACTIVE",
        "tenant_id": world.project_id(server.project),
        "metadata": server.metadata,
        "addresses": addresses,
        "accessIPv4": "",
        "accessIPv6": "",
        "links": links(base, id),
        "OS-EXT-STS:vm_state": "active",
        "OS-EXT-STS:power_state": 1,
    });
    if let (Some(row), Some(distortion)) = (row.as_object_mut(), world.distortions.get(&id)) {
        row.extend(distortion.clone());
    }
    row
}

/// The part of Nova's regular expressions that stands for one name. MySQL compares them without case.
struct Pattern {
    text: String,
    start: bool,
    end: bool,
}

impl Pattern {
    fn parse(pattern: &str) -> Option<Self> {
        let (start, pattern) = match pattern.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let mut text = String::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => text.push(chars.next().filter(|c| !c.is_alphanumeric())?),
                '$' if chars.as_str().is_empty() => {
                    return Some(Self { text: text.to_lowercase(), start, end: true });
                }
                '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
                other => text.push(other),
            }
        }
        Some(Self { text: text.to_lowercase(), start, end: false })
    }

    fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        match (self.start, self.end) {
            (true, true) => name == self.text,
            (true, false) => name.starts_with(&self.text),
            (false, true) => name.ends_with(&self.text),
            (false, false) => name.contains(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_between_anchors_is_compared_without_case() {
        let matches = |pattern: &str, name: &str| Pattern::parse(pattern).map(|p| p.matches(name));
        assert_eq!(matches(r"^worker\.1$", "Worker.1"), Some(true));
        assert_eq!(matches(r"^worker\.1$", "worker.11"), Some(false));
        assert_eq!(matches("ork", "worker"), Some(true));
        assert_eq!(matches("^vm[12]$", "vm1"), None);
    }
}
