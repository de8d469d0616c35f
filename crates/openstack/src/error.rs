//! What can go wrong with a read, and what to call it in a condition.

use multinic_core::{PortId, SubnetId};

use crate::http::TrustError;
use crate::{DecryptError, EndpointError, KeyError, RequestError};

/// Why a cloud could not be read. It names what was asked and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// There is no TLS client for Keystone, Neutron and Nova.
    #[error("OpenStack's certificates: {0}")]
    Trust(TrustError),
    /// There is no TLS client for Contrabass.
    #[error("Contrabass' certificate: {0}")]
    ContrabassTrust(TrustError),
    /// The key of Contrabass' passwords can't be one.
    #[error("the key of Contrabass' passwords: {0}")]
    ContrabassKey(KeyError),
    /// Contrabass could not be asked.
    #[error("Contrabass: {0}")]
    Contrabass(RequestError),
    /// Contrabass answered with something that is not a provider.
    #[error("Contrabass at {url}: {problem}")]
    ContrabassAnswer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer, which is not quoted, since it holds passwords.
        problem: String,
    },
    /// The administrator's password can't be decrypted.
    #[error("adminPw of Contrabass' provider {provider:?}: {error}")]
    ContrabassPassword {
        /// The provider's id.
        provider: String,
        /// Why.
        error: DecryptError,
    },
    /// Keystone could not be asked.
    #[error("Keystone: {0}")]
    Keystone(RequestError),
    /// Keystone does not let us in.
    #[error(
        "Keystone at {url} refuses {who}: check user, domain, password and project, and that there is a role in it \
         (Keystone does not say which is wrong)"
    )]
    KeystoneRefused {
        /// Where the token was asked for.
        url: String,
        /// The user and the project, or the application credential.
        who: String,
    },
    /// The token is of another project than the configuration's.
    #[error("the token is scoped to {scope}, and the configuration says project {wanted}")]
    WrongProject {
        /// What the configuration says.
        wanted: String,
        /// What the token says.
        scope: String,
    },
    /// There is no URL for Neutron.
    #[error("Neutron's endpoint: {0}")]
    NeutronEndpoint(EndpointError),
    /// There is no URL for Nova.
    #[error("Nova's endpoint: {0}")]
    NovaEndpoint(EndpointError),
    /// The ports could not be read.
    #[error("ports: {0}")]
    Ports(ReadError),
    /// The subnets could not be read.
    #[error("subnets: {0}")]
    Subnets(ReadError),
    /// The networks could not be read.
    #[error("networks: {0}")]
    Networks(ReadError),
    /// The servers could not be read, and VMs are given by name.
    #[error("servers: {0}")]
    Servers(ReadError),
    /// A subnet that the configuration names does not exist.
    #[error("subnet {0:?} does not exist, or project and roles do not let us see it")]
    SubnetNotFound(String),
    /// Several subnets have the name that the configuration gives.
    #[error("subnet name {name:?} is not unique: {ids:?} have it; give subnetIDs instead")]
    SubnetNotUnique {
        /// The name.
        name: String,
        /// Who has it.
        ids: Vec<SubnetId>,
    },
}

/// Why a list or an object could not be read as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no token (any more).
    #[error(transparent)]
    Session(Box<CloudError>),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer holds what was not asked for. A server that loses the query of a long URL, and a proxy that drops
    /// it, answer 200 with everything they have.
    #[error("{url}: {what} was not asked for; the query was lost on the way")]
    Unasked {
        /// What was asked.
        url: String,
        /// The row that is too much.
        what: String,
    },
    /// A row that matters for all can't be understood.
    #[error("{url}: {what} can't be understood: {problem}")]
    Unreadable {
        /// What was asked.
        url: String,
        /// The row.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The pages don't come to an end.
    #[error("{url}: page {page} {problem}, so the list can't be read to its end")]
    Paging {
        /// What was asked.
        url: String,
        /// The page's number from 1.
        page: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two rows say different things about one port at the same revision.
    #[error("{url}: port {port} is listed twice, with different content")]
    Contradiction {
        /// What was asked.
        url: String,
        /// The port.
        port: PortId,
    },
    /// The query would be too long for the servers of some clouds, which then drop it in silence.
    #[error("{url}: the query has {length} bytes, more than {limit}")]
    QueryTooLong {
        /// What was to be asked.
        url: String,
        /// How long its query is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
}

impl CloudError {
    /// The reason under which the failure is reported in the condition `Ready`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ContrabassTrust(_)
            | Self::ContrabassKey(_)
            | Self::Contrabass(_)
            | Self::ContrabassAnswer { .. }
            | Self::ContrabassPassword { .. } => "ContrabassError",
            Self::Trust(_) | Self::Keystone(_) | Self::KeystoneRefused { .. } | Self::WrongProject { .. } => {
                "KeystoneError"
            }
            Self::NeutronEndpoint(_) => "NeutronEndpointError",
            Self::NovaEndpoint(_) => "NovaEndpointError",
            Self::Ports(_) => "NeutronPortError",
            Self::Subnets(_) => "NeutronSubnetError",
            Self::Networks(_) => "NeutronNetworkError",
            Self::Servers(_) => "NovaError",
            Self::SubnetNotFound(_) => "SubnetNotFound",
            Self::SubnetNotUnique { .. } => "SubnetNotUnique",
        }
    }

    /// Whether the same read can succeed later without anybody changing the configuration or the cloud's set-up.
    pub fn retry(&self) -> bool {
        match self {
            Self::Contrabass(error) | Self::Keystone(error) => error.can_pass(),
            Self::ContrabassAnswer { .. } => true,
            Self::Ports(error) | Self::Subnets(error) | Self::Networks(error) | Self::Servers(error) => {
                error.retry()
            }
            Self::Trust(_)
            | Self::ContrabassTrust(_)
            | Self::ContrabassKey(_)
            | Self::ContrabassPassword { .. }
            | Self::KeystoneRefused { .. }
            | Self::WrongProject { .. }
            | Self::NeutronEndpoint(_)
            | Self::NovaEndpoint(_)
            | Self::SubnetNotFound(_)
            | Self::SubnetNotUnique { .. } => false,
        }
    }

    /// A failed token is Keystone's failure, whatever it was wanted for.
    pub(crate) fn of(step: impl FnOnce(ReadError) -> Self) -> impl FnOnce(ReadError) -> Self {
        |error| match error {
            ReadError::Session(error) => *error,
            error => step(error),
        }
    }
}

impl ReadError {
    /// Whether the same read can succeed later by itself.
    pub fn retry(&self) -> bool {
        match self {
            Self::Session(error) => error.retry(),
            Self::Request(error) => error.can_pass(),
            Self::Unasked { .. }
            | Self::Unreadable { .. }
            | Self::Paging { .. }
            | Self::Contradiction { .. } => true,
            Self::QueryTooLong { .. } => false,
        }
    }

    pub(crate) fn unreadable(url: &str, what: &'static str, problem: &serde_json::Error) -> Self {
        Self::Unreadable { url: url.to_owned(), what, problem: problem.to_string() }
    }

    /// A row with this id is too much.
    pub(crate) fn unasked(url: &str, what: impl Into<String>) -> Self {
        Self::Unasked { url: url.to_owned(), what: what.into() }
    }
}

impl RequestError {
    /// Refusals stay until somebody changes something; failures pass.
    fn can_pass(&self) -> bool {
        !matches!(self.status(), Some(300..=399 | 400..=407 | 410..=428))
    }
}
