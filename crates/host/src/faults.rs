//! Points at which a test can make the agent fail, stop or die: `MULTINIC_FAULT="step.rename=kill,rollback.live=fail"`.
//!
//! Only builds with debug assertions or with the feature `fault-injection` heed the variable; in all others a point is
//! nothing at all.

use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

/// The variable that says which points do what.
pub const VARIABLE: &str = "MULTINIC_FAULT";

/// Whether this build heeds [`VARIABLE`].
pub const ENABLED: bool = cfg!(any(debug_assertions, feature = "fault-injection"));

macro_rules! points {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// A point between two effects on the node.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $(#[doc = $doc] $variant,)*
        }

        /// Every point, in the order in which a change passes them.
        pub const ALL: &[Point] = &[$(Point::$variant),*];

        impl Point {
            /// The name in [`VARIABLE`].
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

points! {
    JournalTemporary = "journal.temporary", "The journal entry is written under its temporary name.";
    JournalWritten = "journal.written", "The journal entry is in place; nothing has been changed yet.";
    ManagerHeld = "manager.held", "The network manager has let go of the link.";
    SetDown = "step.set_down", "The link is down.";
    DropAltName = "step.drop_altname", "The other name is dropped.";
    Rename = "step.rename", "The link has its new name.";
    SetMtu = "step.set_mtu", "The MTU is set.";
    IgnoreRouterAdvertisements = "step.ignore_ra", "Router advertisements are ignored.";
    HeedRouterAdvertisements = "step.heed_ra", "Router advertisements are heeded again.";
    Set = "step.set", "A setting has its new value.";
    RemoveRoute = "step.remove_route", "A route is removed.";
    RemoveRule = "step.remove_rule", "A rule is removed.";
    RemoveAddress = "step.remove_address", "An address is removed.";
    AddAddress = "step.add_address", "An address is added.";
    SetUp = "step.set_up", "The link is up.";
    RemoveVlan = "step.remove_vlan", "A VLAN is removed.";
    AddVlan = "step.add_vlan", "A VLAN is made.";
    AddRoute = "step.add_route", "A route is added.";
    AddRule = "step.add_rule", "A rule is added.";
    Backup = "backup.written", "The file that is about to be replaced or removed has been copied.";
    FileTemporary = "file.temporary", "A file for the next boot is written under its temporary name.";
    WriteFile = "step.write_file", "A file for the next boot is in place.";
    RemoveFile = "step.remove_file", "A file for the next boot is gone.";
    ManagerAgrees = "manager.agrees", "The network manager, if one runs, agrees.";
    Verified = "verify.done", "Kernel and file show what was asked for.";
    StateTemporary = "commit.temporary", "The state is written under its temporary name.";
    Committed = "commit.written", "The state is in place: the change counts as made.";
    JournalRemoved = "journal.removed", "The journal entry is removed.";
    RollbackBegun = "rollback.begun", "Rolling back is about to begin.";
    RollbackVlans = "rollback.vlans", "The VLANs that the change made are gone.";
    RollbackName = "rollback.name", "Name and MTU are as before.";
    RollbackAddresses = "rollback.addresses", "The addresses are as before.";
    RollbackRules = "rollback.rules", "Routes and rules are as before.";
    RollbackLive = "rollback.live", "The link is as before.";
    RollbackFiles = "rollback.files", "The files are as before.";
    RollbackVerified = "rollback.verified", "Everything was found to be as before.";
}

impl Point {
    /// Whether it is passed only while a change is rolled back.
    pub fn is_of_rollback(self) -> bool {
        self.name().starts_with("rollback.")
    }

    /// Whether it is passed only where the kernel has VLANs.
    pub fn needs_vlans(self) -> bool {
        matches!(self, Self::AddVlan | Self::RemoveVlan)
    }

    /// Whether it is passed only where a network manager runs that has to let go of a link.
    pub fn needs_manager(self) -> bool {
        self == Self::ManagerHeld
    }
}

/// A failure that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fault injected at {}", .0.name())]
pub struct Injected(pub Point);

/// [`VARIABLE`] cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}: {0:?} is not POINT=kill, POINT=fail or POINT=stop with a POINT such as step.rename")]
pub struct BadFault(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill,
    Fail,
    Stop,
}

fn parse(text: &str) -> Result<Vec<(Point, Act)>, BadFault> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let parsed = items.map(|item| {
        let bad = || BadFault(item.to_owned());
        let (name, act) = item.split_once('=').ok_or_else(bad)?;
        let point = ALL.iter().copied().find(|point| point.name() == name).ok_or_else(bad)?;
        let act = match act {
            "kill" => Act::Kill,
            "fail" => Act::Fail,
            "stop" => Act::Stop,
            _ => return Err(bad()),
        };
        Ok((point, act))
    });
    parsed.collect()
}

fn asked_for() -> &'static Result<Vec<(Point, Act)>, BadFault> {
    static ASKED: OnceLock<Result<Vec<(Point, Act)>, BadFault>> = OnceLock::new();
    ASKED.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()))
}

/// Whether [`VARIABLE`] makes sense; to be asked at start.
pub fn check() -> Result<(), BadFault> {
    if !ENABLED {
        return Ok(());
    }
    asked_for().as_ref().map(|_| ()).map_err(Clone::clone)
}

/// Passes a point.
pub fn point(point: Point) -> Result<(), Injected> {
    if !ENABLED {
        return Ok(());
    }
    let Ok(asked) = asked_for() else { return Ok(()) };
    for (_, act) in asked.iter().filter(|(asked, _)| *asked == point) {
        let signal = match act {
            Act::Fail => return Err(Injected(point)),
            Act::Kill => Signal::KILL,
            Act::Stop => Signal::STOP,
        };
        // A signal to oneself is delivered before the call returns.
        if kill_process(getpid(), signal).is_err() {
            return Err(Injected(point));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_understood() {
        for point in ALL {
            assert_eq!(parse(&format!("{}=fail", point.name())), Ok(vec![(*point, Act::Fail)]));
            assert_eq!(ALL.iter().filter(|other| other.name() == point.name()).count(), 1);
        }
    }

    #[test]
    fn several_points_may_be_named() {
        let parsed = parse("step.rename=fail, rollback.live=kill,").unwrap();
        assert_eq!(parsed, [(Point::Rename, Act::Fail), (Point::RollbackLive, Act::Kill)]);
    }

    #[test]
    fn a_fault_that_does_not_exist_is_an_error() {
        for text in ["step.rename", "step.rename=explode", "step.renamed=kill"] {
            assert_eq!(parse(text), Err(BadFault(text.to_owned())));
        }
    }
}
