//! What stands in the way of telling the node's managers of a change, and of arming what undoes it when we die: found without
//! any change to the node.

use std::os::unix::net::UnixStream;
use std::path::Path;

use multinic_core::node::doctor::{Hindrance, HindranceKind};

use crate::backend::Backend;
use crate::files::HostRoot;
use crate::guard::Guard;
use crate::guard::program::may_be_put;
use crate::guard::unit;
use crate::host::Host;
use crate::manager::bus::{Bus, SOCKET};
use crate::manager::{network_manager, networkd};

/// Looks at the bus's socket and at the place of the program.
pub(crate) fn of_node(root: &HostRoot, backend: Backend, guard: Option<&Guard>) -> Vec<Hindrance> {
    let socket = root.path().join(SOCKET);
    let unreachable = UnixStream::connect(&socket).err().map(|error| Hindrance {
        kind: HindranceKind::BusUnreachable,
        found: format!("the node's system bus cannot be reached ({error})"),
        place: socket.display().to_string(),
        needed_for: without_bus(backend).to_owned(),
        stops: refuses(guard),
    });
    let undo = guard.and_then(|guard| undo_program(root, backend, guard));
    unreachable.into_iter().chain(undo).collect()
}

/// Whether nothing is changed where nothing can be armed.
fn refuses(guard: Option<&Guard>) -> bool {
    guard.is_some_and(|guard| !guard.settings.unarmed)
}

fn without_bus(backend: Backend) -> &'static str {
    match backend {
        Backend::Netplan | Backend::Wicked => {
            "no timer of systemd can be armed that undoes a change when the agent dies"
        }
        Backend::Networkd => {
            "no timer of systemd can be armed that undoes a change when the agent dies, and networkd cannot be told of a file"
        }
        Backend::NetworkManager | Backend::Ifcfg => {
            "neither a timer of systemd nor a checkpoint of NetworkManager can be armed that undoes a change when the agent \
             dies, and NetworkManager cannot be told of a profile"
        }
    }
}

/// NetworkManager's checkpoint does without the program, but for names and files.
fn undo_program(root: &HostRoot, backend: Backend, guard: &Guard) -> Option<Hindrance> {
    let program = &guard.settings.program;
    let error = may_be_put(root, program).err()?;
    let (needed_for, beside) = match backend {
        Backend::Netplan | Backend::Networkd | Backend::Wicked => {
            ("it is all that undoes a change when the agent dies", false)
        }
        Backend::NetworkManager | Backend::Ifcfg => (
            "what NetworkManager's checkpoint does not undo when the agent dies, names and files, waits for its next start",
            true,
        ),
    };
    Some(Hindrance {
        kind: HindranceKind::UndoProgram,
        found: error.to_string(),
        place: program.display().to_string(),
        needed_for: needed_for.to_owned(),
        stops: !beside && refuses(Some(guard)),
    })
}

impl Host {
    /// Asks on the bus whether what a change needs is allowed. Nothing is done by that. A bus that is not there is found by
    /// [`Self::survey`].
    pub(crate) async fn denied(&self) -> Vec<Hindrance> {
        let Ok(Some(bus)) = Bus::connect(&self.root).await else { return Vec::new() };
        let denied = |service: &str, found: String, needed_for: &str, stops| Hindrance {
            kind: HindranceKind::BusDenied,
            found,
            place: format!("{service} on the node's system bus"),
            needed_for: needed_for.to_owned(),
            stops,
        };
        let managed = matches!(self.backend, Backend::NetworkManager | Backend::Ifcfg);
        let mut found = Vec::new();
        if self.guard.is_some()
            && let Some(why) = unit::denied(&bus).await
        {
            let needed_for = "no timer can be armed that undoes a change when the agent dies";
            found.push(denied(unit::SYSTEMD, why, needed_for, !managed && refuses(self.guard.as_ref())));
        }
        if managed && let Some(why) = network_manager::denied(&bus).await {
            let needed_for = "it cannot be told of a NIC that it has, and the change of that fails";
            found.push(denied(network_manager::SERVICE, why, needed_for, true));
        }
        if matches!(self.backend, Backend::Netplan | Backend::Networkd)
            && let Some(why) = networkd::denied(&bus).await
        {
            let needed_for =
                "it cannot be told of a NIC that another file gave it, and the change of that fails";
            found.push(denied(networkd::SERVICE, why, needed_for, false));
        }
        found
    }
}

/// The file system of a path that may not be there yet.
pub(crate) fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guard::GuardSettings;

    fn guard(program: &str, unarmed: bool, backend: Backend) -> Guard {
        let settings = GuardSettings { program: program.into(), arguments: Vec::new(), unarmed };
        Guard::new(settings, Duration::ZERO, backend)
    }

    #[test]
    fn a_bus_that_nobody_can_reach_is_told_with_what_fails_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        for backend in Backend::ALL {
            for unarmed in [false, true] {
                let guard = guard("/var/lib/multinic/bin/agent", unarmed, backend);
                let found = of_node(&root, backend, Some(&guard));
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!((found[0].kind, found[0].stops), (HindranceKind::BusUnreachable, !unarmed));
            }
        }
        std::fs::create_dir_all(folder.path().join("run/dbus")).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        assert_eq!(of_node(&root, Backend::Netplan, None), []);
        // One that died has left its socket.
        drop(listener);
        assert_eq!(of_node(&root, Backend::Netplan, None).len(), 1);
    }

    #[test]
    fn a_place_where_no_program_can_be_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::open(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("opt/agent")).unwrap();
        for (backend, stops) in
            [(Backend::Netplan, true), (Backend::Wicked, true), (Backend::NetworkManager, false)]
        {
            let at = |program| undo_program(&root, backend, &guard(program, false, backend));
            assert_eq!(at("/opt/other/agent"), None);
            let found = at("/opt/agent").unwrap();
            assert_eq!((found.kind, found.stops), (HindranceKind::UndoProgram, stops), "{found:?}");
        }
    }
}
