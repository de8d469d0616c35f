//! Network namespaces.

use std::ffi::OsStr;
use std::fs::File;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{Handle, LinkUnspec};

use super::{NodeError, netlink, system};

/// The index that the kernel gives the loopback link of every namespace.
const LOOPBACK: u32 = 1;

/// A network namespace, held by a file descriptor and so without any process in it. It goes, with its links, when the
/// last clone of this is dropped and the last process in it has ended.
#[derive(Debug, Clone)]
pub struct NetNs {
    name: Arc<str>,
    fd: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes one, with its loopback link up. The name is for messages only.
    pub fn new(name: &str) -> Result<Self, NodeError> {
        let make = || -> std::io::Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        };
        // Only the thread that does it moves, and it ends at once.
        let fd = on_a_thread(make).map_err(system(format!("make the network namespace {name}")))?;
        let namespace = Self { name: name.into(), fd: Arc::new(fd) };
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        let set = namespace.netlink(async |handle| handle.link().change(up).execute().await)?;
        set.map_err(netlink(format!("set the loopback link of {name} up")))?;
        Ok(namespace)
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs something on a thread within the namespace: sockets that it opens and processes that it starts belong there.
    /// A panic in it goes on here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NodeError> {
        on_a_thread(|| setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).map(|()| work()))
            .map_err(|errno| system(format!("enter the network namespace {}", self.name))(errno.into()))
    }

    /// Runs something with a connection to the kernel within the namespace.
    pub fn netlink<T: Send, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Handle) -> F + Send,
    ) -> Result<T, NodeError> {
        let failed = || system(format!("talk to the kernel in the network namespace {}", self.name));
        let worked = self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                Ok(work(handle).await)
            })
        })?;
        worked.map_err(failed())
    }

    /// A program that is to run within the namespace; nsenter (util-linux) takes it there. The process that calls this
    /// has to live until the program has started.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// A path at which other programs find the namespace as long as this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let joined = thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|panic| resume_unwind(panic))
}
