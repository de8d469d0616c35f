//! The catalog, and which of its endpoints is the one.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use url::Url;

/// What Keystone knows of the services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog(Vec<Service>);

/// One service.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    #[serde(default)]
    interface: String,
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

/// Why the catalog has no endpoint for us. There is no second best: another region is another cloud, and another
/// interface another network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No such service.
    #[error("the catalog has no service of type {kind:?}, only {has:?}; give the endpoint in the settings")]
    NoService {
        /// `network` or `compute`.
        kind: &'static str,
        /// The types that there are.
        has: Vec<String>,
    },
    /// No endpoint of that interface and region.
    #[error("the catalog's service {kind:?} has no {wanted} endpoint, only {has:?}")]
    NoEndpoint {
        /// `network` or `compute`.
        kind: &'static str,
        /// The interface and the region that are configured.
        wanted: String,
        /// What there is.
        has: Vec<String>,
    },
    /// Several, and nothing tells them apart.
    #[error(
        "the catalog's service {kind:?} has several {wanted} endpoints: {has:?}; configure the region or the URL"
    )]
    Several {
        /// `network` or `compute`.
        kind: &'static str,
        /// The interface and the region that are configured.
        wanted: String,
        /// What there is.
        has: Vec<String>,
    },
    /// The URL is none.
    #[error("{url:?} is no http or https URL")]
    NoUrl {
        /// What is there in place of one.
        url: String,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region_id.as_deref().or(self.region.as_deref()).unwrap_or("no region");
        write!(f, "{} in {region}: {}", self.interface, self.url)
    }
}

impl Endpoint {
    /// The older and the newer name of a region are the same, and Keystone compares them without case.
    fn is_in(&self, region: &str) -> bool {
        [&self.region, &self.region_id].into_iter().flatten().any(|name| name.eq_ignore_ascii_case(region))
    }
}

impl Catalog {
    pub fn new(services: Vec<Service>) -> Self {
        Self(services)
    }

    /// The URL of the service of this type with this interface in this region.
    pub fn choose(
        &self,
        kind: &'static str,
        interface: &str,
        region: Option<&str>,
    ) -> Result<Url, EndpointError> {
        let services: Vec<&Service> = self.0.iter().filter(|service| service.kind == kind).collect();
        if services.is_empty() {
            let types: BTreeSet<&String> = self.0.iter().map(|service| &service.kind).collect();
            return Err(EndpointError::NoService { kind, has: types.into_iter().cloned().collect() });
        }
        let all: Vec<&Endpoint> = services.into_iter().flat_map(|service| &service.endpoints).collect();
        let fitting: Vec<&Endpoint> = all
            .iter()
            .copied()
            .filter(|endpoint| endpoint.interface.eq_ignore_ascii_case(interface))
            .filter(|endpoint| region.is_none_or(|region| endpoint.is_in(region)))
            .collect();
        let wanted = || match region {
            Some(region) => format!("{interface} ({region})"),
            None => interface.to_owned(),
        };
        let listed = |endpoints: &[&Endpoint]| endpoints.iter().map(ToString::to_string).collect();
        let Some(first) = fitting.first() else {
            return Err(EndpointError::NoEndpoint { kind, wanted: wanted(), has: listed(&all) });
        };
        let same = |other: &&Endpoint| {
            other.url == first.url && other.region == first.region && other.region_id == first.region_id
        };
        if !fitting.iter().all(same) {
            return Err(EndpointError::Several { kind, wanted: wanted(), has: listed(&fitting) });
        }
        let url = first.url.parse::<Url>().ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or_else(|| EndpointError::NoUrl { url: first.url.clone() })
    }
}

/// Neutron's base: with one `/v2.0`, whether it was there or not.
pub(crate) fn neutron_base(url: &Url) -> Url {
    versioned(url, "v2.0", |segments| segments.last() == Some(&"v2.0"))
}

/// Nova's base: with one version, whether it was there or not. Older catalogs have the project behind it.
pub(crate) fn nova_base(url: &Url) -> Url {
    versioned(url, "v2.1", |segments| {
        segments.iter().rev().take(2).any(|segment| matches!(*segment, "v2" | "v2.0" | "v2.1"))
    })
}

fn versioned(url: &Url, version: &str, has: impl Fn(&[&str]) -> bool) -> Url {
    let segments: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let mut base = url.clone();
    if let Ok(mut path) = base.path_segments_mut() {
        path.clear().extend(&segments);
        if !has(&segments) {
            path.push(version);
        }
    }
    base.set_query(None);
    base.set_fragment(None);
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let endpoint = |interface: &str, region: &str, url: &str| Endpoint {
            interface: interface.into(),
            region: Some(region.into()),
            region_id: Some(region.into()),
            url: url.into(),
        };
        Catalog::new(vec![
            Service {
                kind: "network".into(),
                endpoints: vec![
                    endpoint("public", "RegionOne", "http://one:9696"),
                    endpoint("internal", "RegionOne", "http://inside:9696"),
                    endpoint("public", "RegionTwo", "http://two:9696"),
                ],
            },
            Service { kind: "compute".into(), endpoints: vec![endpoint("public", "RegionOne", "ftp://x")] },
        ])
    }

    #[test]
    fn interface_and_region_decide() {
        let choose = |interface, region| catalog().choose("network", interface, region).unwrap();
        assert_eq!(choose("public", Some("RegionTwo")).as_str(), "http://two:9696/");
        assert_eq!(choose("public", Some("regionone")).as_str(), "http://one:9696/");
        assert_eq!(choose("internal", None).as_str(), "http://inside:9696/");
    }

    #[test]
    fn there_is_no_second_best() {
        let choose = |kind, interface, region| catalog().choose(kind, interface, region).unwrap_err();
        let error = choose("network", "public", Some("RegionThree"));
        assert!(matches!(&error, EndpointError::NoEndpoint { has, .. } if has.len() == 3), "{error}");
        let error = choose("network", "admin", Some("RegionOne"));
        assert!(error.to_string().contains("public in RegionTwo: http://two:9696"), "{error}");
        let error = choose("network", "internal", Some("RegionTwo"));
        assert!(matches!(error, EndpointError::NoEndpoint { .. }), "{error}");
        let error = choose("volumev3", "public", None);
        assert!(error.to_string().contains(r#"["compute", "network"]"#), "{error}");
        assert!(matches!(choose("compute", "public", None), EndpointError::NoUrl { .. }));
    }

    #[test]
    fn several_regions_need_a_choice() {
        let error = catalog().choose("network", "public", None).unwrap_err();
        assert!(matches!(&error, EndpointError::Several { has, .. } if has.len() == 2), "{error}");
    }

    #[test]
    fn a_version_is_never_doubled() {
        for (given, wanted) in [
            ("http://n:9696", "http://n:9696/v2.0"),
            ("http://n:9696/", "http://n:9696/v2.0"),
            ("http://n:9696/v2.0", "http://n:9696/v2.0"),
            ("http://n/networking//v2.0/", "http://n/networking/v2.0"),
        ] {
            assert_eq!(neutron_base(&given.parse().unwrap()).as_str(), wanted);
        }
        for (given, wanted) in [
            ("http://c:8774", "http://c:8774/v2.1"),
            ("http://c:8774/v2.1/", "http://c:8774/v2.1"),
            ("http://c/compute/v2.1/0123abcd", "http://c/compute/v2.1/0123abcd"),
            ("http://c:8774/v2/0123abcd", "http://c:8774/v2/0123abcd"),
        ] {
            assert_eq!(nova_base(&given.parse().unwrap()).as_str(), wanted);
        }
    }
}
