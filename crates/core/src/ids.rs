//! Identifiers of OpenStack and of configurations.
//!
//! They are shared strings: a fleet of 10 000 nodes names the same few networks, subnets and projects 100 000 times.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as OpenStack writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A Neutron port.
    PortId
}
id! {
    /// A Neutron network.
    NetworkId
}
id! {
    /// A Neutron subnet.
    SubnetId
}
id! {
    /// A Nova server; the `device_id` of its ports, the `instanceId` of its node configuration.
    ServerId
}
id! {
    /// A Keystone project.
    ProjectId
}

/// The name of an `OpenstackConfig`: where it comes from, in logs and in the database. Each of its interfaces names it, so
/// a copy is one shared pointer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigKey(Arc<ConfigName>);

/// The two halves of a [`ConfigKey`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigName {
    /// The Kubernetes namespace; `default` where a file names none.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl ConfigKey {
    /// Joins the two halves.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(ConfigName { namespace: namespace.into(), name: name.into() }))
    }
}

impl Deref for ConfigKey {
    type Target = ConfigName;

    fn deref(&self) -> &ConfigName {
        &self.0
    }
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Makes equal texts share one allocation while a large answer is read.
#[derive(Debug, Default)]
pub struct Interner(HashSet<Arc<str>>);

impl Interner {
    /// The shared form of `text`.
    pub fn get<T: From<Arc<str>>>(&mut self, text: &str) -> T {
        if let Some(known) = self.0.get(text) {
            return known.clone().into();
        }
        let shared: Arc<str> = text.into();
        self.0.insert(shared.clone());
        shared.into()
    }
}
