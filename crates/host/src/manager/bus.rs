//! The node's system bus, for the time of a few calls: a connection costs memory that most agents never need.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::de::DeserializeOwned;

use zbus::OwnedVariant;
use zbus::connection::Builder;
use zbus::zvariant::{DynamicType, Type};

use crate::files::HostRoot;

/// Where the bus listens, below the node's root.
pub const SOCKET: &str = "run/dbus/system_bus_socket";

/// How long a call may take.
const LONGEST: Duration = Duration::from_secs(10);

/// The bus, or who answers on it, does not answer as expected.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It is there and does not let us in.
    #[error("cannot connect to the system bus at {path}: {source}")]
    Connect {
        /// The socket.
        path: std::path::PathBuf,
        /// Why.
        source: zbus::Error,
    },
    /// The call failed.
    #[error("{method} of {object} on the system bus failed: {source}")]
    Call {
        /// The method.
        method: String,
        /// The object.
        object: String,
        /// Why.
        source: zbus::Error,
    },
    /// The call takes too long.
    #[error("{method} on the system bus did not end within {seconds} s", seconds = LONGEST.as_secs())]
    TooSlow {
        /// The method.
        method: String,
    },
}

impl BusError {
    /// Whether who was called answered with this error.
    pub fn is(&self, name: &str) -> bool {
        let Self::Call { source: zbus::Error::MethodError(error, _, _), .. } = self else { return false };
        error.as_str() == name
    }

    /// Whether the bus, or who was called, does not let us.
    pub fn is_denied(&self) -> bool {
        let Self::Call { source: zbus::Error::FDO(error), .. } = self else { return false };
        matches!(
            **error,
            zbus::fdo::Error::AccessDenied(_)
                | zbus::fdo::Error::AuthFailed(_)
                | zbus::fdo::Error::InteractiveAuthorizationRequired(_)
        )
    }
}

/// A connection.
#[derive(Debug)]
pub struct Bus(zbus::Connection);

/// An object of a service, seen through one of its interfaces.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The service.
    pub service: &'a str,
    /// The object's path.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

impl Bus {
    /// Connects; none where no bus runs.
    pub async fn connect(root: &HostRoot) -> Result<Option<Self>, BusError> {
        let path = root.path().join(SOCKET);
        let failed = |source| BusError::Connect { path: path.clone(), source };
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) if nobody_listens(&error) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let connected = tokio::time::timeout(LONGEST, Builder::unix_stream(stream).build()).await;
        let connected = connected.map_err(|_| BusError::TooSlow { method: "Hello".to_owned() })?;
        Ok(Some(Self(connected.map_err(failed)?)))
    }

    /// Calls a method.
    pub async fn call<B, R>(&self, object: Object<'_>, method: &str, body: &B) -> Result<R, BusError>
    where
        B: serde::Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let Object { service, path, interface } = object;
        let failed = |source| BusError::Call {
            method: format!("{interface}.{method}"),
            object: path.to_owned(),
            source,
        };
        let answer = self.0.call_method(Some(service), path, Some(interface), method, body);
        let answer = tokio::time::timeout(LONGEST, answer).await;
        let answer = answer.map_err(|_| BusError::TooSlow { method: method.to_owned() })?.map_err(failed)?;
        answer.body().deserialize().map_err(failed)
    }

    /// Reads a property.
    pub async fn get<T>(&self, object: Object<'_>, property: &str) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: Into<zbus::Error>,
    {
        let properties = Object { interface: "org.freedesktop.DBus.Properties", ..object };
        let value: OwnedVariant = self.call(properties, "Get", &(object.interface, property)).await?;
        T::try_from(value).map_err(|error| BusError::Call {
            method: format!("Get {property}"),
            object: object.path.to_owned(),
            source: error.into(),
        })
    }

    /// Whether somebody answers to a name.
    pub async fn has_owner(&self, name: &str) -> Result<bool, BusError> {
        let bus = Object {
            service: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
        };
        self.call(bus, "NameHasOwner", &name).await
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_no_bus_runs_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        assert!(Bus::connect(&root).await.unwrap().is_none());
        std::fs::create_dir_all(folder.path().join("run/dbus")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap());
        assert!(Bus::connect(&root).await.unwrap().is_none());
    }
}
