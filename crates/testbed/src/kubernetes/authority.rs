//! The certificate authority of a control plane, and what it signs.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use super::KubernetesError;
use super::error::file;

/// The object identifier of `organizationName`. A name that is built here holds each *type* once; written as an
/// identifier it counts as another type.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// A certificate and its key, as PEM.
pub(super) struct Signed {
    pub certificate: String,
    pub key: String,
}

impl Signed {
    /// Writes `<name>.crt` and `<name>.key`.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<(), KubernetesError> {
        for (ending, content) in [("crt", &self.certificate), ("key", &self.key)] {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, content).map_err(file(&path))?;
        }
        Ok(())
    }
}

/// Signs servers' and clients' certificates.
pub(super) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

impl Authority {
    pub(super) fn new() -> Result<Self, KubernetesError> {
        let subject = "the test authority";
        let key = key(subject)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, subject);
        let certificate = params.self_signed(&key).map_err(failed(subject))?;
        Ok(Self { params, key, certificate })
    }

    /// Its own certificate.
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The same, as DER.
    pub(super) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// A server's certificate for host names and addresses.
    pub(super) fn server(&self, names: &[String]) -> Result<Signed, KubernetesError> {
        let subject = names.join(", ");
        let mut params = CertificateParams::new(names).map_err(failed(&subject))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, &subject)
    }

    /// A client's certificate: Kubernetes takes the common name for the user, each organization for a group.
    pub(super) fn client(&self, user: &str, groups: &[&str]) -> Result<Signed, KubernetesError> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = rcgen::DistinguishedName::new();
        let types = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION.to_vec())];
        if groups.len() > types.len() {
            return Err(KubernetesError::TooManyGroups { user: user.to_owned(), groups: groups.len() });
        }
        for (dn_type, group) in types.into_iter().zip(groups) {
            params.distinguished_name.push(dn_type, *group);
        }
        params.distinguished_name.push(DnType::CommonName, user);
        self.sign(&params, user)
    }

    fn sign(&self, params: &CertificateParams, subject: &str) -> Result<Signed, KubernetesError> {
        let key = key(subject)?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(failed(subject))?;
        Ok(Signed { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The keys that sign and check the tokens of service accounts: `service-accounts.key`, `service-accounts.pub`.
pub(super) fn write_token_keys(folder: &Path) -> Result<(), KubernetesError> {
    let key = key("service accounts")?;
    for (ending, content) in [("key", key.serialize_pem()), ("pub", key.public_key_pem())] {
        let path = folder.join(format!("service-accounts.{ending}"));
        fs::write(&path, content).map_err(file(&path))?;
    }
    Ok(())
}

fn key(subject: &str) -> Result<KeyPair, KubernetesError> {
    KeyPair::generate().map_err(failed(subject))
}

fn failed(subject: &str) -> impl FnOnce(rcgen::Error) -> KubernetesError {
    move |source| KubernetesError::Certificate { subject: subject.to_owned(), source }
}
