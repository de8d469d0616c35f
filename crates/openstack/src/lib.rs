//! Keystone, Neutron, Nova and Contrabass, read into a [`CloudSnapshot`](multinic_core::cloud::CloudSnapshot).
//!
//! * [`Cloud`]: one cloud as one configuration reaches it; [`Cloud::snapshot`], [`Cloud::comes_again`] and
//!   [`Cloud::prove_port`].
//! * [`Gate`]: the bound on requests in flight to each server, shared by all clients.
//! * [`bodies`]: an answer's body by itself.
//! * [`CloudError`]: what failed, under which condition reason it is reported, and whether to try again.
//!
//! A read is complete or it is an error. What is asked is as little as the APIs allow, and everything that comes back is
//! compared with what was asked, because a proxy, a URL that is too long or a changed right can answer 200 with
//! something else.

mod api;
pub mod bodies;
mod cloud;
mod error;
mod http;
mod identity;
mod neutron;
mod nova;
mod paging;
mod proof;
mod reading;

pub use cloud::Cloud;
pub use error::{CloudError, ReadError};
pub use http::excerpt::{Excerpt, blotted, without_markup};
pub use http::failure::{Problem, RequestError};
pub use http::gate::Gate;
pub use http::{Observer, Options, Retries, TrustError};
pub use identity::Broker;
pub use identity::catalog::EndpointError;
pub use identity::cipher::{DecryptError, Key, KeyError};
pub use reading::Reading;
