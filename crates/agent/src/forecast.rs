//! What a plan would do, told to people and to scripts.

use std::fmt::Write;

use multinic_core::node::absence::Proof;
use multinic_core::node::{Change, ChangeKind, Drift, NodePlan, Step};
use multinic_core::{MacAddr, Slot};
use serde_json::{Value, json};

use crate::wishes::Wishes;

/// A change, in one word.
pub fn kind(kind: &ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Create => "create",
        ChangeKind::Adopt => "adopt",
        ChangeKind::Update(_) => "update",
        ChangeKind::Repair(_) => "repair",
        ChangeKind::StepAside(_) => "step_aside",
        ChangeKind::Release => "release",
    }
}

/// How a NIC differs, in words.
pub fn drift(found: &Drift) -> String {
    match found {
        Drift::Name(name) => format!("its name is {name}"),
        Drift::Mtu(mtu) => format!("its MTU is {mtu}"),
        Drift::MissingAddress(net) => format!("{net} is missing"),
        Drift::ExtraAddress(net) => format!("{net} is one too many"),
        Drift::ForeignRoute(route) => {
            format!("a lease or a router put the route to {} there", route.destination)
        }
        Drift::MissingRoute(route) => {
            format!("the route to {} in table {} is missing", route.destination, route.table)
        }
        Drift::ExtraRoute(route) => {
            format!("the route to {} in table {} is one too many", route.destination, route.table)
        }
        Drift::PrefixRoute(net) => {
            format!("the main table's route to the network of {net} is not as asked for")
        }
        Drift::MissingRule(rule) => format!("the rule {} from {} is missing", rule.priority, rule.from),
        Drift::ExtraRule(rule) => {
            format!("the rule {} to table {} is one too many", rule.priority, rule.table)
        }
        Drift::Setting(setting, value) => format!("its {} is {value}", setting.key()),
        Drift::HeedsRouters => "it heeds router advertisements".to_owned(),
        Drift::Down => "it is down".to_owned(),
        Drift::MissingVlan(vlan) => format!("{vlan} is missing"),
        Drift::SurplusVlan { vlan, .. } => format!("{vlan} is there as it should not be"),
        Drift::OnVlan(vlan, found) => format!("of {vlan}, {}", drift(found)),
        Drift::File => "its file is missing or another".to_owned(),
    }
}

/// The drifts of a change, in words.
pub fn drifts(change: &Change) -> Vec<String> {
    match &change.kind {
        ChangeKind::Update(found) | ChangeKind::Repair(found) => found.iter().map(drift).collect(),
        ChangeKind::StepAside(name) => vec![format!("it waits for its name as {name}")],
        ChangeKind::Create | ChangeKind::Adopt | ChangeKind::Release => Vec::new(),
    }
}

fn step(taken: &Step) -> String {
    match taken {
        Step::SetDown => "set it down".to_owned(),
        Step::DropAltName(name) => format!("drop its other name {name}"),
        Step::Rename(name) => format!("rename it to {name}"),
        Step::SetMtu(mtu) => format!("set MTU {mtu}"),
        Step::IgnoreRouterAdvertisements => "ignore router advertisements".to_owned(),
        Step::HeedRouterAdvertisements => "heed router advertisements as a new link does".to_owned(),
        Step::Set(setting, value) => format!("set {} to {value}", setting.key()),
        Step::RemoveRule(rule) => format!("remove the rule {} from {}", rule.priority, rule.from),
        Step::AddRoute(route) => format!("add the route to {} in table {}", route.destination, route.table),
        Step::AddRule(rule) => {
            format!("add the rule {} from {} to table {}", rule.priority, rule.from, rule.table)
        }
        Step::RemoveRoute(route) => format!("remove the route to {}", route.destination),
        Step::RemoveAddress(net) => format!("remove {net}"),
        Step::AddAddress(net) => format!("add {net}"),
        Step::SetUp => "set it up".to_owned(),
        Step::RemoveVlan { vlan, .. } => format!("remove {vlan}"),
        Step::AddVlan(vlan) => format!("make {vlan}"),
        Step::OnVlan(vlan, taken) => format!("on {vlan}: {}", step(taken)),
        Step::WriteFile(target) => format!("write the file of {}", target.name),
        Step::RemoveFile(name) => format!("remove the file of {name}"),
    }
}

/// The name that the NIC has after the change.
pub fn name_of(change: &Change) -> String {
    change.target.as_ref().map_or_else(|| change.original_name.clone(), |target| target.name.to_string())
}

fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::Tombstone => "tombstone",
        Proof::NotListed => "not_listed",
        Proof::Deletion => "deletion",
        Proof::LongAbsence => "long_absence",
    }
}

/// For people.
pub fn text(node: &str, wishes: &Wishes, plan: &NodePlan) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{text}");
    };
    line(format!("node {node}"));
    if !wishes.node_known {
        line("  the source does not know a node of this name: nothing is taken away on its word".to_owned());
    }
    for change in &plan.changes {
        line(format!("  {} {} ({})", kind(&change.kind), name_of(change), change.mac));
        for text in drifts(change) {
            line(format!("      since {text}"));
        }
        for taken in &change.steps {
            line(format!("      {}", step(taken)));
        }
        if let Some(slot) = change.name_conflict {
            line(format!("      and report a name conflict: {} was asked for", slot.interface()));
        }
    }
    for settled in &plan.settled {
        line(format!("  as desired {} ({})", settled.target.name, settled.target.mac));
    }
    for refusal in &plan.refused {
        let link = refusal.link.as_deref().unwrap_or("no single link");
        line(format!("  leave alone {link} ({}): {}", refusal.mac, refusal.reason));
    }
    for mac in &plan.absent {
        line(format!("  wait for {mac}: no link with this MAC on the node"));
    }
    for entry in &wishes.invalid {
        let mac = entry.mac.map_or_else(|| "no readable MAC".to_owned(), |mac| mac.to_string());
        line(format!("  cannot use entry {} ({mac}): {}", entry.entry.0, entry.reason));
    }
    for (mac, why) in &wishes.held {
        line(format!("  keep {mac}, which the source does not name: {why}"));
    }
    match plan.changes.len() {
        0 => line("nothing to do".to_owned()),
        1 => line("1 change".to_owned()),
        count => line(format!("{count} changes")),
    }
    out
}

/// For scripts.
pub fn json(node: &str, wishes: &Wishes, plan: &NodePlan) -> Value {
    let changes = plan.changes.iter().map(|change| {
        json!({
            "kind": kind(&change.kind),
            "mac": change.mac,
            "name": name_of(change),
            "link_index": change.link,
            "addresses": change.target.as_ref().map(|target| &target.addresses),
            "mtu": change.target.as_ref().map(|target| target.mtu),
            "because": drifts(change),
            "steps": change.steps.iter().map(step).collect::<Vec<_>>(),
            "name_conflict": change.name_conflict.map(Slot::interface),
        })
    });
    let settled = plan.settled.iter().map(|settled| {
        json!({
            "mac": settled.target.mac,
            "name": settled.target.name,
            "addresses": settled.target.addresses,
            "mtu": settled.target.mtu,
        })
    });
    let refused = plan.refused.iter().map(
        |refusal| json!({ "mac": refusal.mac, "link": refusal.link, "reason": refusal.reason.to_string() }),
    );
    let invalid = wishes
        .invalid
        .iter()
        .map(|entry| json!({ "entry": entry.entry.0, "mac": entry.mac, "reason": entry.reason }));
    let held = wishes.held.iter().map(|(mac, why)| json!({ "mac": mac, "reason": why }));
    let releases =
        wishes.releases.iter().map(|(mac, why): (&MacAddr, _)| json!({ "mac": mac, "proof": proof(*why) }));
    json!({
        "node": node,
        "node_known": wishes.node_known,
        "changes": changes.collect::<Vec<_>>(),
        "settled": settled.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
        "absent": plan.absent,
        "invalid": invalid.collect::<Vec<_>>(),
        "held": held.collect::<Vec<_>>(),
        "releases": releases.collect::<Vec<_>>(),
    })
}
