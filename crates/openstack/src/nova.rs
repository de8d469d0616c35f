//! Nova: servers by id and by name.
//!
//! A GET each for a few; the paged list for many, which is left as soon as everything is found, and given up when it has
//! taken as many requests as there are servers to find. The list is never proof that a server does not exist (it lacks
//! those of other projects, and those of a cell that is down): what it lacks is asked for by itself.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use multinic_core::ServerId;
use multinic_core::cloud::{Server, ServerIdentity, Unresolved, UnresolvedVm};
use multinic_core::config::VmRef;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use crate::ReadError;
use crate::api::{Api, LONGEST_QUERY, at, with_query};
use crate::paging::{Listing, Next};

/// Up to so many servers are asked for one by one.
const FEW: usize = 10;

/// Servers in one page. Nova takes some milliseconds and writes 2 KB for each.
const PAGE: usize = 200;

const ABREAST: usize = 8;

type Identity = Result<ServerIdentity, String>;

/// Nova during one read.
pub(crate) struct Nova<'a> {
    pub api: &'a Api,
    /// With its version.
    pub base: Url,
}

/// What became of the VMs of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub servers: Vec<Server>,
    pub unresolved: Vec<UnresolvedVm>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// What a row must at least say.
#[derive(Deserialize)]
struct Named {
    id: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct One<'a> {
    #[serde(borrow)]
    server: Row<'a>,
}

/// What is known so far.
#[derive(Default)]
struct Found {
    ids: HashMap<ServerId, Identity>,
    /// The servers of each wanted name.
    names: HashMap<String, BTreeSet<ServerId>>,
}

impl Nova<'_> {
    /// The servers of these VMs, in their order. A name that can't be looked up is an error; an id whose server can't be
    /// read is a server without identity.
    pub async fn resolve(&self, vms: &[VmRef]) -> Result<Resolved, ReadError> {
        let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for vm in vms {
            match vm {
                VmRef::Name(name) => drop(names.insert(name.as_str())),
                VmRef::Id(id) => drop(ids.insert(id)),
            }
        }
        let mut found = Found::default();
        let searches: Option<Vec<Url>> = names.iter().map(|name| named(&self.base, name)).collect();
        match searches.filter(|searches| searches.len() <= FEW) {
            Some(searches) => {
                let searches: Vec<_> = searches.into_iter().map(|url| self.search(url, &names)).collect();
                for part in stream::iter(searches).buffered(ABREAST).try_collect::<Vec<_>>().await? {
                    found.merge(part);
                }
                let missing = found.missing(&ids);
                if missing.len() > FEW {
                    self.list_ids(&missing, &mut found).await?;
                }
            }
            // Many names, or one that is too long for a query: one list for names and ids together.
            None => found = self.list(&names, &ids, usize::MAX).await?,
        }
        self.get_each(&found.missing(&ids), &mut found).await?;
        Ok(found.in_order(vms))
    }

    /// Looks for many ids in the list.
    async fn list_ids(&self, ids: &BTreeSet<&ServerId>, found: &mut Found) -> Result<(), ReadError> {
        match self.list(&BTreeSet::new(), ids, ids.len()).await {
            Ok(listed) => found.merge(listed),
            Err(error @ ReadError::Session(_)) => return Err(error),
            // Nova fails as a whole: asking for each would make it worse.
            Err(error) => {
                let why = error.to_string();
                found.ids.extend(ids.iter().map(|id| ((*id).clone(), Err(why.clone()))));
            }
        }
        Ok(())
    }

    /// Asks for each by itself. Those that Nova does not have stay unknown.
    async fn get_each(&self, ids: &BTreeSet<&ServerId>, found: &mut Found) -> Result<(), ReadError> {
        // Made before the first wait: a closure that is kept over one makes the whole future unusable in a task.
        let singles: Vec<_> = ids.iter().map(|id| self.get(id)).collect();
        let outcomes: Vec<_> = stream::iter(singles).buffered(ABREAST).collect().await;
        for (id, outcome) in ids.iter().copied().zip(outcomes) {
            match outcome {
                Ok(Some(identity)) => drop(found.ids.insert(id.clone(), Ok(identity))),
                Ok(None) => {}
                Err(error @ ReadError::Session(_)) => return Err(error),
                Err(error) => drop(found.ids.insert(id.clone(), Err(error.to_string()))),
            }
        }
        Ok(())
    }

    /// One server; none if Nova itself says that there is none.
    pub async fn get(&self, id: &ServerId) -> Result<Option<ServerIdentity>, ReadError> {
        let answer = match self.api.get("nova.server", at(&self.base, ["servers", id.as_str()])).await {
            Err(ReadError::Request(error)) if error.is_absence("itemNotFound") => return Ok(None),
            outcome => outcome?,
        };
        let One { server } = answer.json("server")?;
        if server.id != id.as_str() {
            return Err(ReadError::unasked(&answer.url, format!("server {}", server.id)));
        }
        Ok(Some(server.into_identity()))
    }

    /// The servers of exactly one of these names, of a search for one of them.
    async fn search(&self, url: Url, names: &BTreeSet<&str>) -> Result<Found, ReadError> {
        self.read(url, names, &BTreeSet::new(), usize::MAX).await
    }

    async fn list(
        &self,
        names: &BTreeSet<&str>,
        ids: &BTreeSet<&ServerId>,
        pages: usize,
    ) -> Result<Found, ReadError> {
        self.read(at(&self.base, ["servers", "detail"]), names, ids, pages).await
    }

    /// Reads a list for what is wanted of it.
    async fn read(
        &self,
        url: Url,
        names: &BTreeSet<&str>,
        ids: &BTreeSet<&ServerId>,
        pages: usize,
    ) -> Result<Found, ReadError> {
        let listing =
            Listing { api: self.api, operation: "nova.servers", collection: "servers", url, limit: PAGE };
        let mut found = Found {
            names: names.iter().map(|name| ((*name).to_owned(), BTreeSet::new())).collect(),
            ..Found::default()
        };
        let texts: HashSet<&str> = ids.iter().map(|id| id.as_str()).collect();
        let row = |found: &mut Found, url: &str, raw: &RawValue| {
            let (id, name, identity) = match serde_json::from_str::<Row<'_>>(raw.get()) {
                Ok(row) => (row.id.to_string(), row.name.clone(), Ok(row.into_identity())),
                Err(error) => match serde_json::from_str(raw.get()) {
                    Ok(Named { id, name }) => (id, name, Err(format!("{url}: {error}"))),
                    // An id is asked for by itself.
                    Err(_) if names.is_empty() => return Ok(()),
                    // It could be the one that makes a name ambiguous.
                    Err(error) => return Err(ReadError::unreadable(url, "a server", &error)),
                },
            };
            let namesakes = found.names.get_mut(name.as_deref().unwrap_or_default());
            if namesakes.is_some() || texts.contains(id.as_str()) {
                let id = ServerId::from(id);
                if let Some(namesakes) = namesakes {
                    namesakes.insert(id.clone());
                }
                found.ids.insert(id, identity);
            }
            Ok(())
        };
        let after = |found: &Found, page: usize| {
            // A name can turn up again on the last page.
            let complete = names.is_empty() && found.ids.len() == ids.len();
            if complete || page >= pages { Next::Enough } else { Next::Page }
        };
        listing.read(&mut found, row, after).await?;
        Ok(found)
    }
}

/// The list of servers with a name. Nova takes a regular expression; none if the query would be too long.
fn named(base: &Url, name: &str) -> Option<Url> {
    let mut pattern = String::from("^");
    for c in name.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('$');
    let url = with_query(at(base, ["servers", "detail"]), [("name", pattern.as_str())]);
    (url.query().map_or(0, str::len) + 64 <= LONGEST_QUERY).then_some(url)
}

/// Reads one server of a list.
pub(crate) fn server(text: &str) -> Result<ServerIdentity, serde_json::Error> {
    serde_json::from_str::<Row<'_>>(text).map(Row::into_identity)
}

impl Row<'_> {
    fn into_identity(self) -> ServerIdentity {
        let Self { id: _, name, metadata } = self;
        ServerIdentity { name: name.unwrap_or_default(), metadata }
    }
}

impl Found {
    fn merge(&mut self, other: Self) {
        let Self { ids, names } = other;
        self.ids.extend(ids);
        for (name, servers) in names {
            self.names.entry(name).or_default().extend(servers);
        }
    }

    fn missing<'a>(&self, ids: &BTreeSet<&'a ServerId>) -> BTreeSet<&'a ServerId> {
        ids.iter().copied().filter(|id| !self.ids.contains_key(*id)).collect()
    }

    /// What was found, as the configuration has it. A VM that it names twice, by id and by name, is one server.
    fn in_order(mut self, vms: &[VmRef]) -> Resolved {
        let mut resolved = Resolved::default();
        let mut taken = HashSet::new();
        for vm in vms {
            let id = match vm {
                VmRef::Id(id) => Ok(id.clone()),
                VmRef::Name(name) => {
                    let mut servers = self.names.get(name).cloned().unwrap_or_default();
                    match (servers.pop_first(), servers.is_empty()) {
                        (Some(id), true) => Ok(id),
                        (Some(id), false) => {
                            let all = [id].into_iter().chain(servers).collect();
                            Err((name.clone(), Unresolved::Ambiguous(all)))
                        }
                        (None, _) => Err((name.clone(), Unresolved::NotFound)),
                    }
                }
            };
            match id {
                Ok(id) if taken.contains(&id) => {}
                Ok(id) => match self.ids.remove(&id) {
                    Some(identity) => {
                        taken.insert(id.clone());
                        resolved.servers.push(Server { id, identity });
                    }
                    None => {
                        let vm = id.to_string();
                        resolved.unresolved.push(UnresolvedVm { vm, why: Unresolved::NotFound });
                    }
                },
                Err((vm, why)) => resolved.unresolved.push(UnresolvedVm { vm, why }),
            }
        }
        resolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_pattern() {
        let base: Url = "http://c/v2.1".parse().unwrap();
        let name = |name: &str| {
            let url = named(&base, name)?;
            let (_, pattern) = url.query_pairs().next()?;
            Some(pattern.into_owned())
        };
        assert_eq!(name("worker-1.a+b").as_deref(), Some(r"^worker-1\.a\+b$"));
        assert_eq!(name("노드 1").as_deref(), Some("^노드 1$"));
        assert_eq!(name(&"노".repeat(255)), None);
    }
}
