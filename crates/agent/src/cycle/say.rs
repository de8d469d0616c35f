//! What a read says, said once.

use std::collections::BTreeSet;

use multinic_core::MacAddr;
use multinic_core::desired::{DesiredState, Silence};
use multinic_core::node::absence::{Proof, Trust};

use super::Agent;
use crate::metrics::ErrorType;
use crate::news::Subject;
use crate::wishes::Wishes;

impl Agent {
    pub(super) fn say_source(&mut self, read: &DesiredState, trust: &Trust) {
        let text = match trust {
            Trust::NoRemovals(why) => format!("nothing is removed: {why}"),
            Trust::Full if read.silence == Silence::Deleted => "deleted".to_owned(),
            Trust::Full if read.node_known => "read".to_owned(),
            Trust::Full | Trust::Stale => "unknown".to_owned(),
        };
        if !self.news.is_new(Subject::Source, &text) {
            return;
        }
        let node_name = &self.node.name;
        let entries = read.nics.len() + read.invalid.len();
        match trust {
            Trust::NoRemovals(why) => {
                tracing::warn!(%node_name, interface_count = entries, error = why, "the source was read; on its word nothing is taken away");
            }
            _ if read.silence == Silence::Deleted => {
                tracing::info!(%node_name, source = %self.source.place(), "the object is being deleted: what it named is taken away");
            }
            _ if read.silence == Silence::NoObject => tracing::warn!(
                %node_name,
                source = %self.source.place(),
                "there is no object of this node: nothing is configured, and nothing is taken away"
            ),
            _ if read.node_known => {
                tracing::info!(%node_name, interface_count = entries, source = %self.source.place(), "the source was read");
            }
            _ => tracing::warn!(
                %node_name,
                source = %self.source.place(),
                "the source does not know a node of this name: nothing is configured, and nothing is taken away; is NODE_NAME the name of its server in OpenStack?"
            ),
        }
    }

    pub(super) fn say_wishes(&mut self, wishes: &Wishes, ours: &BTreeSet<MacAddr>) {
        let node_name = &self.node.name;
        for entry in &wishes.invalid {
            if self.news.is_new(Subject::Entry(entry.entry), &entry.reason) {
                self.metrics.error(ErrorType::Validation);
                tracing::error!(
                    %node_name,
                    interface_id = entry.entry.0,
                    mac_address = entry.mac.map(|mac| mac.to_string()),
                    error = entry.reason,
                    error_type = ErrorType::Validation.label(),
                    "entry cannot be used; what it stands for stays as it is"
                );
            }
        }
        for (mac, why) in wishes.held.iter().filter(|(mac, _)| ours.contains(mac)) {
            if self.news.is_new(Subject::Held(*mac), why) {
                tracing::warn!(%node_name, mac_address = %mac, error = why, "interface is not named by the source and stays");
            }
        }
        for (mac, proof) in wishes.releases.iter().filter(|(mac, _)| ours.contains(mac)) {
            let proof = match proof {
                Proof::Tombstone => "the source says so",
                Proof::NotListed => "the object does not name it any more",
                Proof::Deletion => "the object is being deleted",
                Proof::LongAbsence => "the source has not named it for long enough",
            };
            if self.news.is_new(Subject::Held(*mac), proof) {
                tracing::info!(%node_name, mac_address = %mac, reason = proof, "interface is to be taken away");
            }
        }
        let entries: BTreeSet<_> = wishes.invalid.iter().map(|entry| entry.entry).collect();
        self.news.keep(|subject| match subject {
            Subject::Entry(entry) => entries.contains(&entry),
            Subject::Held(mac) => wishes.held.contains_key(&mac) || wishes.releases.contains_key(&mac),
            Subject::Source | Subject::Nic(_) | Subject::Fight(_) => true,
            Subject::Finding(..) | Subject::Unchecked | Subject::Untold => true,
        });
    }
}
