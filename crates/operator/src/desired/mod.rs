//! Which objects a `MultiNicOperator` wants: a pure function of its spec and the manifests.

mod container;
mod controller;
mod settings;

use multinic_api::MultiNicOperatorSpec;

use crate::manifests::Manifests;
use crate::object::{Object, Owner};

pub use controller::CONTROLLER;
pub(crate) use settings::RESERVED;

/// Every object that is wanted, in the order in which they are to be made. The spec has passed [`check`](crate::check).
pub fn desired(owner: &Owner, spec: &MultiNicOperatorSpec, manifests: &Manifests) -> Vec<Object> {
    let mut objects = controller::objects(owner, spec, &manifests.controller);
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects
}

/// A text of a spec. A blank one is as if it were absent: the older programs wrote such.
pub(crate) fn given(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}
