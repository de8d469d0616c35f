//! A change that was interrupted by a boot. If that found what the change had written, then it made the links anew from
//! that, and they are to be rolled back as in the boot in which the change began, under the indices that they have now.
//! Leases and what came with them are left to who gets them.

use std::borrow::Cow;

use multinic_core::node::observed::{Link, RouteOrigin};

use crate::HostError;
use crate::journal::{self, Entry, LinkBefore, VlanBefore};
use crate::rollback::{Ground, is_of};

/// An entry as if its change had begun in this boot; as it is, where there is nothing to be rolled back but files.
pub(crate) fn as_of_this_boot<'a>(ground: Ground<'_>, entry: &'a Entry) -> Result<Cow<'a, Entry>, HostError> {
    let boot = journal::boot()?;
    let Some(before) = &entry.link else { return Ok(Cow::Borrowed(entry)) };
    if boot == entry.boot || !wrote(ground, entry)? {
        return Ok(Cow::Borrowed(entry));
    }
    let links = ground.netlink.links()?;
    let mut nics = links.iter().filter(|link| !link.stacked && is_of(link, entry.mac));
    let (Some(nic), None) = (nics.next(), nics.next()) else { return Ok(Cow::Borrowed(entry)) };
    let mut entry = entry.clone();
    entry.boot = boot;
    entry.link = Some(anew(before, nic.index, Some(nic), &links));
    let mut unused = links.iter().map(|link| link.index).max().unwrap_or_default();
    for VlanBefore { id, parent: _, link: before } in &mut entry.vlans {
        let is = |link: &&Link| link.name == before.name && link.vlan == Some(*id);
        let now = links.iter().find(is);
        let index = now.map_or_else(
            || {
                unused = unused.saturating_add(1);
                unused
            },
            |now| now.index,
        );
        *before = anew(before, index, now, &links);
    }
    Ok(Cow::Owned(entry))
}

/// Whether the files of the change are not what they were before it.
fn wrote(ground: Ground<'_>, entry: &Entry) -> Result<bool, HostError> {
    for file in &entry.files {
        if ground.root.read(&file.path)? != file.content.as_ref().map(journal::Content::to_copy) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn anew(before: &LinkBefore, index: u32, now: Option<&Link>, links: &[Link]) -> LinkBefore {
    let mut anew = LinkBefore { index, ..before.clone() };
    if let Some(now) = now {
        // The kernel may have given its name to another one.
        let is_taken = |link: &Link| link.name == before.name || link.altnames.contains(&before.name);
        if links.iter().any(|link| link.index != index && is_taken(link)) {
            anew.name.clone_from(&now.name);
        }
        anew.altnames.clone_from(&now.altnames);
    }
    anew.addresses.retain_mut(|address| {
        let saved = address.saved().and_then(|saved| saved.address_on(index));
        saved.map(|saved| address.saved = saved.to_text()).is_some() && !address.dynamic
    });
    anew.routes.retain_mut(|route| {
        let Some(saved) = route.saved().and_then(|saved| saved.route_on(index)) else { return false };
        route.saved = saved.to_text();
        saved.route().is_some_and(|route| route.origin != RouteOrigin::Dynamic)
    });
    anew
}
