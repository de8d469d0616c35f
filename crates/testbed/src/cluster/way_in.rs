//! The opposite of a [`relay`](crate::relay): a port on this machine that leads to a server within a namespace.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::node::NetNs;
use crate::relay::{RelayError, copy_both_ways};

/// Listens on a free port of 127.0.0.1 in the namespace of the calling thread and hands every connection on to `target`,
/// which is reached from within `node`. It serves as long as the process lives.
pub(super) fn way_in(node: &NetNs, target: SocketAddr) -> Result<SocketAddr, RelayError> {
    let at = IpAddr::from(Ipv4Addr::LOCALHOST);
    let failed = |source| RelayError::Listen { node: "this machine".to_owned(), at, source };
    let listener = TcpListener::bind((at, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    // A thread is in the namespace of the one that started it.
    node.run(|| {
        thread::spawn(move || {
            for outside in listener.incoming().flatten() {
                // A server that is down looks like one: the connection ends.
                if let Ok(inside) = TcpStream::connect(target) {
                    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
                    copy_both_ways(inside, outside);
                }
            }
        });
    })?;
    Ok(address)
}
