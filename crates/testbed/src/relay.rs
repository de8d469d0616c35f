//! A way out of a namespace that has no route: a port within it that leads to a server outside.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::node::{NetNs, NodeError};

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No port.
    #[error("cannot listen at {at} in {node}: {source}")]
    Listen {
        /// The namespace.
        node: String,
        /// The address.
        at: IpAddr,
        /// Why.
        source: io::Error,
    },
}

/// Listens on a free port of an address of the namespace and hands every connection on to `target`, which is reached
/// from the namespace of the calling thread. Returns the port. It serves as long as the process lives.
pub fn relay(node: &NetNs, at: IpAddr, target: SocketAddr) -> Result<u16, RelayError> {
    let failed = |source| RelayError::Listen { node: node.name().to_owned(), at, source };
    // A socket stays in the namespace in which it was made, whoever uses it.
    let listener = node.run(|| TcpListener::bind((at, 0)))?.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            // A server that is down looks to the inside like one: the connection ends.
            if let Ok(outside) = TcpStream::connect(target) {
                copy_both_ways(inside, outside);
            }
        }
    });
    Ok(port)
}

/// Copies what either end says to the other, until each has said that it is done.
pub(crate) fn copy_both_ways(inside: TcpStream, outside: TcpStream) {
    let (Ok(inside_too), Ok(outside_too)) = (inside.try_clone(), outside.try_clone()) else { return };
    for (mut from, mut to) in [(inside, outside), (outside_too, inside_too)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}
