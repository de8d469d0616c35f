//! Bodies of answers by themselves, read as the client reads them: for who has a body and no server, as the fuzz targets do.

use multinic_core::ids::Interner;
use secrecy::SecretString;

use crate::http::{Answer, excerpt::Excerpt};
use crate::identity::catalog::{neutron_base, nova_base};
use crate::identity::keystone::grant;
use crate::identity::{cipher::Key, contrabass};
use crate::neutron::{networks::NETWORK, ports, subnets::SUBNET};
use crate::paging::{Link, rows_of};
use crate::{CloudError, RequestError, nova};

/// What a request had in it that must not be shown of its answer.
pub const SECRET: &str = "kept-to-oneself";

/// A list of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// `GET /v2.0/ports`.
    Ports,
    /// `GET /v2.0/subnets`.
    Subnets,
    /// `GET /v2.0/networks`.
    Networks,
    /// `GET /v2.1/servers/detail`.
    Servers,
}

/// Reads a page: how many of its objects can be read, and whether there is a link to the next one.
///
/// # Errors
/// Where it is no page of such a list.
pub fn readable(what: Listed, body: &[u8]) -> Result<(usize, bool), RequestError> {
    let mut interner = Interner::default();
    let mut row: Box<dyn FnMut(&str) -> bool> = match what {
        Listed::Ports => Box::new(|text| ports::port(text, &mut interner).is_ok()),
        Listed::Subnets => Box::new(|text| (SUBNET.parse)(text, &mut interner).is_ok()),
        Listed::Networks => Box::new(|text| (NETWORK.parse)(text, &mut interner).is_ok()),
        Listed::Servers => Box::new(|text| nova::server(text).is_ok()),
    };
    let collection = match what {
        Listed::Ports => "ports",
        Listed::Subnets => "subnets",
        Listed::Networks => "networks",
        Listed::Servers => "servers",
    };
    let answer = Answer::of_body(body);
    let (rows, links) = rows_of(collection, &answer)?;
    Ok((
        rows.iter().filter(|raw| row(raw.get())).count(),
        links.iter().any(|link| Link::next(link).is_some()),
    ))
}

/// Reads the body that comes with a token, and chooses the endpoints in it.
///
/// # Errors
/// Where it is none, or has none.
pub fn token(body: &[u8]) -> Result<(), CloudError> {
    let mut answer = Answer::of_body(body);
    answer.headers.insert("x-subject-token", reqwest::header::HeaderValue::from_static("token"));
    let catalog = grant(&answer, &SecretString::from(SECRET), None)?.catalog;
    let network = catalog.choose("network", "public", Some("RegionOne"));
    let compute = catalog.choose("compute", "public", None);
    let _ = (network.map(|url| neutron_base(&url)), compute.map(|url| nova_base(&url)));
    Ok(())
}

/// Reads Contrabass' description of a provider.
///
/// # Errors
/// Where it is none, or lacks something, or the password in it cannot be decrypted with this key.
pub fn provider(key: &Key, body: &[u8]) -> Result<(), CloudError> {
    contrabass::login(&Answer::of_body(body), "provider", key).map(|_| ())
}

/// What an error shows of a body that came with it.
pub fn excerpt(content_type: Option<&str>, body: &[u8]) -> Excerpt {
    Excerpt::of(content_type, body, &[&SecretString::from(SECRET)])
}
