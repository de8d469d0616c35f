//! The ports of servers.
//!
//! They are asked for by `device_id` *and* by `project_id`. `device_id` is a text that any tenant may write on a port of
//! their own, and a token with an administrator's role sees every tenant's ports: without the project, a stranger
//! could hang NICs on our nodes. What the filter hides is a port that an administrator made in another project and
//! attached to our server; such a port is not the project's to configure, and a token without that role would not
//! see it anyway. A port on a network that another project shares is the project's own, and is not hidden.
//!
//! A trunk's subports have no `device_id` and never appear.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use multinic_core::cloud::{FixedIp, Port, UnreadablePort};
use multinic_core::ids::Interner;
use multinic_core::{PortId, ProjectId, ServerId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Neutron;
use super::chunks::chunks;
use crate::ReadError;
use crate::api::{at, with_query};
use crate::paging::{Listing, Next};

/// What is read of a port: a fifth of what Neutron would send.
const FIELDS: [(&str, &str); 9] = [
    ("fields", "id"),
    ("fields", "network_id"),
    ("fields", "device_id"),
    ("fields", "project_id"),
    ("fields", "mac_address"),
    ("fields", "status"),
    ("fields", "fixed_ips"),
    ("fields", "created_at"),
    ("fields", "revision_number"),
];

/// A chunk's ports come in one page, unless the server's own limit is lower or the servers have dozens each.
const PAGE: usize = 1000;

/// How many chunks are read at once; the gate decides how many of them are in flight.
const ABREAST: usize = 8;

/// Everything that was listed for some servers.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub readable: Vec<Port>,
    pub unreadable: Vec<UnreadablePort>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    network_id: Cow<'a, str>,
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow)]
    project_id: Cow<'a, str>,
    #[serde(borrow)]
    mac_address: Cow<'a, str>,
    status: Option<String>,
    #[serde(borrow)]
    fixed_ips: Vec<RowIp<'a>>,
    created_at: Option<String>,
    revision_number: Option<i64>,
}

#[derive(Deserialize)]
struct RowIp<'a> {
    #[serde(borrow)]
    subnet_id: Cow<'a, str>,
    #[serde(borrow)]
    ip_address: Cow<'a, str>,
}

/// What a row must at least say to be compared with what was asked.
#[derive(Deserialize, Default)]
struct Owner {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    project_id: Option<String>,
}

impl Neutron<'_> {
    /// Every port of these servers that the project owns.
    pub async fn ports(&self, servers: &[ServerId]) -> Result<Ports, ReadError> {
        let mut fixed = vec![("project_id", self.project.as_str())];
        fixed.extend(FIELDS);
        let ids: Vec<&str> = servers.iter().map(ServerId::as_str).collect();
        let parts: Vec<Vec<&str>> =
            chunks("device_id", &ids, &fixed).into_iter().map(<[&str]>::to_vec).collect();
        // Made before the first wait: a closure that is kept over one makes the whole future unusable in a task.
        let read: Vec<_> = parts.into_iter().map(|part| self.ports_of(part, &fixed)).collect();
        let parts: Vec<Ports> = stream::iter(read).buffered(ABREAST).try_collect().await?;
        let mut all = Ports::default();
        all.readable.reserve_exact(parts.iter().map(|part| part.readable.len()).sum());
        for Ports { readable, unreadable } in parts {
            all.readable.extend(readable);
            all.unreadable.extend(unreadable);
        }
        Ok(all)
    }

    async fn ports_of(&self, devices: Vec<&str>, fixed: &[(&str, &str)]) -> Result<Ports, ReadError> {
        let pairs = devices.iter().map(|id| ("device_id", *id)).chain(fixed.iter().copied());
        let listing = Listing {
            api: self.api,
            operation: "neutron.ports",
            collection: "ports",
            url: with_query(at(&self.base, ["ports"]), pairs),
            limit: PAGE,
        };
        let mut state = (Ports::default(), HashMap::new());
        let row = |(ports, known): &mut (Ports, HashMap<PortId, usize>), url: &str, raw: &RawValue| {
            self.take(&devices, url, raw, known, ports)
        };
        listing.read(&mut state, row, |_, _| Next::Page).await?;
        let (mut ports, _) = state;
        ports.readable.shrink_to_fit();
        Ok(ports)
    }

    /// Compares a row with what was asked, and takes it in.
    fn take(
        &self,
        devices: &[&str],
        url: &str,
        raw: &RawValue,
        known: &mut HashMap<PortId, usize>,
        ports: &mut Ports,
    ) -> Result<(), ReadError> {
        let unasked = |id: &str, device: &str, project: &str| {
            let asked = devices.iter().any(|asked| asked.eq_ignore_ascii_case(device));
            let what = || format!("port {id} of device {device:?} in project {project:?}");
            if asked && project == self.project.as_str() {
                Ok(())
            } else {
                Err(ReadError::unasked(url, what()))
            }
        };
        let row: Row<'_> = match serde_json::from_str(raw.get()) {
            Ok(row) => row,
            Err(error) => {
                let Owner { id, device_id, project_id } = serde_json::from_str(raw.get()).unwrap_or_default();
                if let (Some(device), Some(project)) = (&device_id, &project_id) {
                    unasked(id.as_deref().unwrap_or("without id"), device, project)?;
                }
                ports.unreadable.push(UnreadablePort {
                    id: id.map(Into::into),
                    device: device_id.map(Into::into),
                    problem: error.to_string(),
                });
                return Ok(());
            }
        };
        unasked(&row.id, &row.device_id, &row.project_id)?;
        let (id, device) = (row.id.to_string(), row.device_id.to_string());
        let read = if devices.contains(&device.as_str()) {
            row.into_port(&mut self.interner())
        } else {
            // Databases that compare without case return it; Nova never writes one.
            Err(format!("its device_id {device:?} is not written as Nova writes it"))
        };
        match read {
            Ok(port) => add(url, port, known, &mut ports.readable),
            Err(problem) => {
                let device = Some(device.to_ascii_lowercase().into());
                ports.unreadable.push(UnreadablePort { id: Some(id.into()), device, problem });
                Ok(())
            }
        }
    }
}

/// Reads one port.
pub(crate) fn port(text: &str, interner: &mut Interner) -> Result<Port, String> {
    let row: Row<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    row.into_port(interner)
}

/// A port may come twice when the list changes while it is paged through: the later revision counts.
fn add(
    url: &str,
    port: Port,
    known: &mut HashMap<PortId, usize>,
    ports: &mut Vec<Port>,
) -> Result<(), ReadError> {
    let entry = match known.entry(port.id.clone()) {
        Entry::Vacant(entry) => {
            entry.insert(ports.len());
            ports.push(port);
            return Ok(());
        }
        Entry::Occupied(entry) => entry,
    };
    match ports.get_mut(*entry.get()) {
        Some(earlier) if port.revision_number > earlier.revision_number => *earlier = port,
        Some(earlier) if port.revision_number == earlier.revision_number && port != *earlier => {
            return Err(ReadError::Contradiction { url: url.to_owned(), port: port.id });
        }
        _ => {}
    }
    Ok(())
}

impl Row<'_> {
    fn into_port(self, interner: &mut Interner) -> Result<Port, String> {
        let Self {
            id,
            network_id,
            device_id,
            project_id,
            mac_address,
            status,
            fixed_ips,
            created_at,
            revision_number,
        } = self;
        let fixed_ip = |RowIp { subnet_id, ip_address }: &RowIp<'_>, interner: &mut Interner| {
            let ip: IpAddr =
                ip_address.parse().map_err(|_| format!("{ip_address:?} is not an IP address"))?;
            Ok::<_, String>(FixedIp { ip, subnet: interner.get(subnet_id) })
        };
        let mut ips = Vec::with_capacity(fixed_ips.len());
        for row in &fixed_ips {
            ips.push(fixed_ip(row, interner)?);
        }
        Ok(Port {
            mac: mac_address.parse().map_err(|error| format!("mac_address: {error}"))?,
            id: id.as_ref().into(),
            network: interner.get(&network_id),
            device: interner.get(&device_id),
            project: interner.get::<ProjectId>(&project_id),
            status: status.unwrap_or_default(),
            fixed_ips: ips,
            // It only orders NICs that come at once; without it they are in order of MAC.
            created_at: created_at.and_then(|text| time(&text)),
            revision_number: revision_number.unwrap_or_default(),
        })
    }
}

/// Neutron writes RFC 3339; older releases leave the zone out, and mean UTC.
fn time(text: &str) -> Option<Timestamp> {
    let naive = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(naive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_zone_and_fraction() {
        let wanted: Timestamp = "2026-11-21T00:41:09Z".parse().unwrap();
        for text in ["2026-11-21T00:41:09Z", "2026-11-21T00:41:09", "2026-11-21T09:41:09+09:00"] {
            assert_eq!(time(text), Some(wanted), "{text}");
        }
        for text in ["2026-11-21T00:41:09.5Z", "2026-11-21T00:41:09.500000"] {
            assert_eq!(time(text).unwrap().as_millisecond() - wanted.as_millisecond(), 500, "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn the_longest_query_fits_with_a_full_chunk_of_servers() {
        let ids: Vec<String> = (0..95).map(|n| format!("00000000-0000-0000-0000-{n:012}")).collect();
        let mut fixed = vec![("project_id", "cfa9e3ea88bc4cf8955ed2ff2dcfd583")];
        fixed.extend(FIELDS);
        assert_eq!(chunks("device_id", &ids, &fixed).len(), 4);
    }
}
