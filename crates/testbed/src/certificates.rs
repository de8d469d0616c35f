//! The certificate of a server of tests, on loopback.

use rcgen::{BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair};

/// Files with their content in PEM: a new authority's certificate, and one by it for `localhost` and `127.0.0.1` with its key.
///
/// # Errors
/// Where no key can be made.
pub fn of_a_server() -> Result<[(&'static str, String); 3], Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    let authority_certificate = authority.self_signed(&authority_key)?;
    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issuer = Issuer::from_params(&authority, &authority_key);
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    Ok([
        ("ca.pem", authority_certificate.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ])
}
