//! The database's accounts: what a spec says of them, what is known already, and what is generated for the rest. Pure.
//!
//! Another user or password is another account beside the one that is in use, and nobody who runs is ever locked out:
//!
//! 1. [`Step::Preparing`]: the server is started with both.
//! 2. [`Step::Moving`]: it runs with both, and programs are started with the new one.
//! 3. All programs have it: the server is started without the old one.
//!
//! The Secret says how far it has come. What allows the next step is in [`rotation`](mod@crate::rotation).

mod accounts;
mod sql;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use multinic_api::operator::DatabaseSpec;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

pub use self::accounts::{Account, Accounts};
use crate::desired::given;
use crate::record::hex;

/// Annotation of that Secret: a digest of all that it holds, by which it shows when somebody else changed that. Passwords that were
/// generated are in it, so nobody finds others by it.
const SEAL: &str = "multinic.example.com/seal";
/// The Secret with the accounts.
pub const SECRET: &str = "multinic-database";
/// Annotation of that Secret and of pods that read it: another text after all of it was lost. Pods are replaced then.
pub const REVISION: &str = "multinic.example.com/revision";
/// The same of what the server does when it starts.
pub const SERVER_REVISION: &str = "multinic.example.com/server-revision";
/// Annotation of that Secret: the rotation that was asked for last.
pub const ROTATION: &str = "multinic.example.com/rotation";
/// The same of the end of one.
const ENDED: &str = "multinic.example.com/rotation-ended";
/// The agents' account; its other name ends in `-b`.
pub const AGENT_USER: &str = "multinic-agent";
/// The account that backups are made by; its other name ends in `-b`.
pub const BACKUP_USER: &str = "multinic-backup";
/// Key of the administrator's password.
pub const ROOT_PASSWORD: &str = "root-password";
/// Key of the controller's user.
pub const USER: &str = "username";
/// Key of the controller's password.
pub const PASSWORD: &str = "password";
/// Key of the agents' user.
pub const AGENT_USERNAME: &str = "agent-username";
/// Key of the agents' password.
pub const AGENT_PASSWORD: &str = "agent-password";
/// Key of the user that backups are made by.
pub const BACKUP_USERNAME: &str = "backup-username";
/// Key of the password of backups.
pub const BACKUP_PASSWORD: &str = "backup-password";
/// Key of the users that there once were, by commas.
const RETIRED: &str = "retired";
/// The name of the database and of the controller's user.
const NAME: &str = "multinic";

/// How far a rotation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The other accounts are made; they will be in use.
    Preparing,
    /// The other accounts were in use; programs leave them.
    Moving,
}

impl Step {
    /// What the keys of the other accounts begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Preparing => "next-",
            Self::Moving => "previous-",
        }
    }
}

/// What the workloads show of a rotation that is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The server runs with all accounts that the Secret names.
    pub server: bool,
    /// Every program runs with the accounts that are in use.
    pub programs: bool,
}

/// Everybody who may log in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The database.
    pub database: String,
    /// The administrator's password, on the server itself only.
    pub root_password: SecretString,
    /// The accounts that programs are to use.
    pub current: Accounts,
    /// While a rotation is under way: the other ones.
    pub other: Option<(Step, Accounts)>,
    /// Users that there were and are not any more.
    pub retired: BTreeSet<String>,
    /// The rotation that was asked for last.
    pub rotation: Option<String>,
    /// The end of a rotation that was asked for last.
    pub ended: Option<String>,
    /// See [`REVISION`]. It says nothing of the passwords.
    pub revision: String,
    /// See [`SERVER_REVISION`].
    pub server_revision: String,
    /// What the server that there is was started with, as long as it is not started with this: a key of the Secret, and its text.
    pub before: Option<(String, SecretString)>,
}

/// What a Secret of ours says.
struct Known<'a>(Option<&'a Secret>);

impl Known<'_> {
    fn text(&self, key: &str) -> Option<String> {
        let ByteString(bytes) = self.0?.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty())
    }

    fn annotation(&self, name: &str) -> Option<String> {
        self.0?.metadata.annotations.as_ref()?.get(name).cloned()
    }

    /// The accounts whose keys begin so.
    fn accounts(&self, prefix: &str) -> Option<Accounts> {
        let account = |user: &str, password: &str, default: Option<&str>| {
            let name = self.text(&format!("{prefix}{user}")).or(default.map(str::to_owned))?;
            let password = self.text(&format!("{prefix}{password}"))?;
            Some(Account { user: name, password: password.into() })
        };
        // An earlier version had one name for agents, and said it nowhere.
        let agent = account(AGENT_USERNAME, AGENT_PASSWORD, prefix.is_empty().then_some(AGENT_USER))?;
        let controller = account(USER, PASSWORD, None)?;
        // The same of backups, which had one account in every rotation.
        let backup = account(BACKUP_USERNAME, BACKUP_PASSWORD, prefix.is_empty().then_some(BACKUP_USER));
        let backup =
            backup.or_else(|| self.accounts("").filter(|_| !prefix.is_empty()).map(|it| it.backup))?;
        Some(Accounts { controller, agent, backup })
    }
}

/// The accounts: what the spec says goes before what is known, and that before what is `fresh`.
pub fn credentials(
    spec: &DatabaseSpec,
    known: Option<&Secret>,
    progress: Progress,
    mut fresh: impl FnMut() -> String,
) -> Credentials {
    let said = spec.credentials.clone().unwrap_or_default();
    let rotation = given(said.rotation.as_ref()).map(str::to_owned);
    let base = given(said.user.as_ref()).unwrap_or(NAME).to_owned();
    let said_password = said.password.filter(|password| !password.is_empty());
    let known = Known(known);
    let mut retired: BTreeSet<String> =
        known.text(RETIRED).unwrap_or_default().split(',').map(str::to_owned).collect();

    let mut carried_out = known.annotation(ROTATION);
    let end = given(said.end_rotation.as_ref()).map(str::to_owned);
    let mut ended = known.annotation(ENDED);
    let is_to_end = end.is_some() && end != ended;
    let (mut is_anew, mut is_moving) = (false, false);
    let (mut current, mut other) = (known.accounts(""), None);
    if let Some(in_use) = current.take() {
        let next = known.accounts(Step::Preparing.prefix());
        let previous = known.accounts(Step::Moving.prefix());
        is_moving = next.is_none() && previous.is_some();
        (current, other) = match (next, previous) {
            (Some(next), _) if progress.server => (Some(next), Some((Step::Moving, in_use))),
            (Some(next), _) => (Some(in_use), Some((Step::Preparing, next))),
            (None, Some(previous)) if progress.server && (progress.programs || is_to_end) => {
                retired.extend(previous.users());
                (Some(in_use), None)
            }
            (None, Some(previous)) => (Some(in_use), Some((Step::Moving, previous))),
            (None, None) => (Some(in_use), None),
        };
    }
    // Before programs move there is nothing to end, and what was said then ends nothing later.
    if other.is_none() || !is_moving {
        ended = end.or(ended);
    }
    let is_lost = current.is_none();
    let current = match current {
        Some(current) => {
            let is_asked_for = rotation.is_some() && rotation != carried_out;
            let wanted = current.wanted(&base, said_password.as_deref(), is_asked_for, &mut fresh);
            if let (None, Some(wanted)) = (&other, wanted) {
                other = Some((Step::Preparing, wanted));
                carried_out = rotation.or(carried_out);
                is_anew = is_asked_for;
            }
            current
        }
        None => {
            // What there is of an account that is known by half is not lost.
            let agent = known.text(AGENT_PASSWORD).unwrap_or_else(&mut fresh);
            let password = said_password.or_else(|| known.text(PASSWORD)).unwrap_or_else(&mut fresh);
            carried_out = rotation;
            let backup = known.text(BACKUP_PASSWORD).unwrap_or_else(&mut fresh);
            let account =
                |user: &str, password: String| Account { user: user.to_owned(), password: password.into() };
            Accounts {
                controller: account(&base, password),
                agent: account(AGENT_USER, agent),
                backup: account(BACKUP_USER, backup),
            }
        }
    };
    let root_password = said.root_password.filter(|password| !password.is_empty());
    // No program has it.
    let root_password =
        root_password.or_else(|| known.text(ROOT_PASSWORD).filter(|_| !is_anew)).unwrap_or_else(&mut fresh);
    let mut credentials = Credentials {
        database: given(said.database.as_ref()).unwrap_or(NAME).to_owned(),
        root_password: root_password.into(),
        current,
        other,
        retired,
        rotation: carried_out,
        ended,
        revision: String::new(),
        server_revision: String::new(),
        before: None,
    };
    if credentials.other.is_none() {
        // A name that was given up in a rotation is nobody's, also where it was forgotten that there was one.
        let names = [base.as_str(), AGENT_USER, BACKUP_USER];
        credentials.retired.extend(names.into_iter().flat_map(Account::names));
    }
    let live = credentials.users();
    credentials.retired.retain(|user| !user.is_empty() && !live.contains(user));
    credentials.revision = known.annotation(REVISION).filter(|_| !is_lost).unwrap_or_else(&mut fresh);
    // It is in what the server does, too.
    credentials.server_revision = known.annotation(SERVER_REVISION).unwrap_or_default();
    if known.text(&credentials.init_key()).is_none_or(|sql| sql != credentials.init_sql()) {
        credentials.server_revision = fresh();
    }
    credentials
}

impl Credentials {
    /// The users of all accounts that the server has.
    fn users(&self) -> BTreeSet<String> {
        let other = self.other.iter().flat_map(|(_, accounts)| accounts.users());
        self.current.users().chain(other).collect()
    }

    /// The key of what the server does when it starts. Each revision has its own: a pod finds what it was made for, also where the
    /// server is not started with another one, because the API server refuses that.
    pub fn init_key(&self) -> String {
        format!("init.{}.sql", self.server_revision)
    }

    /// Keeps the key that the server that there is mounts, until it is started with this: an earlier version's has another name.
    #[must_use]
    pub fn keeping(mut self, known: Option<&Secret>, mounted: Option<String>) -> Self {
        let key = mounted.filter(|key| *key != self.init_key());
        self.before = key.and_then(|key| Known(known).text(&key).map(|sql| (key, sql.into())));
        self
    }

    /// What the Secret holds.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let Self { root_password, current, other, retired, before, .. } = self;
        let retired = retired.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let mut entries = vec![
            (ROOT_PASSWORD.to_owned(), root_password.expose_secret().to_owned()),
            (RETIRED.to_owned(), retired),
            (self.init_key(), self.init_sql()),
        ];
        entries.extend(before.iter().map(|(key, sql)| (key.clone(), sql.expose_secret().to_owned())));
        entries.extend(current.entries(""));
        if let Some((step, accounts)) = other {
            entries.extend(accounts.entries(step.prefix()));
        }
        let entries = entries.into_iter().filter(|(_, text)| !text.is_empty());
        entries.map(|(key, text)| (key, ByteString(text.into_bytes()))).collect()
    }

    /// What its annotations say.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([
            (SEAL.to_owned(), seal(&self.data())),
            (REVISION.to_owned(), self.revision.clone()),
            (SERVER_REVISION.to_owned(), self.server_revision.clone()),
        ]);
        annotations.extend(self.rotation.clone().map(|rotation| (ROTATION.to_owned(), rotation)));
        annotations.extend(self.ended.clone().map(|ended| (ENDED.to_owned(), ended)));
        annotations
    }
}

/// Whether a Secret holds what the operator wrote. One of an earlier version does not say.
pub fn is_sealed(secret: &Secret) -> bool {
    let said = Known(Some(secret)).annotation(SEAL);
    said.is_none_or(|said| said == seal(secret.data.as_ref().unwrap_or(&BTreeMap::new())))
}

fn seal(data: &BTreeMap<String, ByteString>) -> String {
    let mut hash = Sha256::new();
    for (key, ByteString(value)) in data {
        hash.update(key);
        hash.update([0]);
        hash.update(value);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use multinic_api::operator::DatabaseCredentials;

    use super::*;

    const NONE: Progress = Progress { server: false, programs: false };
    const SERVER: Progress = Progress { server: true, programs: false };
    const ALL: Progress = Progress { server: true, programs: true };

    fn secret(credentials: &Credentials) -> Secret {
        let metadata = ObjectMeta { annotations: Some(credentials.annotations()), ..ObjectMeta::default() };
        Secret { metadata, data: Some(credentials.data()), ..Secret::default() }
    }

    fn counting() -> impl FnMut() -> String {
        let mut count = 0;
        move || {
            count += 1;
            format!("fresh-{count}")
        }
    }

    fn spec(user: Option<&str>, password: Option<&str>, rotation: Option<&str>) -> DatabaseSpec {
        let credentials = DatabaseCredentials {
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            rotation: rotation.map(str::to_owned),
            ..DatabaseCredentials::default()
        };
        DatabaseSpec { credentials: Some(credentials), ..DatabaseSpec::default() }
    }

    fn says(credentials: &Credentials, sql: &str) -> bool {
        credentials.init_sql().lines().any(|line| line.starts_with(sql))
    }

    #[test]
    fn what_is_generated_once_stays() {
        let mut fresh = counting();
        let first = credentials(&DatabaseSpec::default(), None, NONE, &mut fresh);
        assert_eq!((first.current.controller.user.as_str(), first.other.is_none()), ("multinic", true));
        let again = credentials(&DatabaseSpec::default(), Some(&secret(&first)), ALL, &mut fresh);
        assert_eq!((again.annotations(), again.data()), (first.annotations(), first.data()));
        // A Secret that was lost is made anew, and everybody hears of it.
        let anew = credentials(&DatabaseSpec::default(), None, NONE, &mut fresh);
        assert_ne!((&anew.revision, &anew.server_revision), (&first.revision, &first.server_revision));
    }

    #[test]
    fn another_password_is_another_account_until_everybody_has_it() {
        let mut fresh = counting();
        let first = credentials(&DatabaseSpec::default(), None, NONE, &mut fresh);
        let wanted = spec(None, Some("a'b\\c"), None);
        let mut step =
            |known: &Credentials, progress| credentials(&wanted, Some(&secret(known)), progress, &mut fresh);
        let preparing = step(&first, ALL);
        assert_eq!(preparing.current.controller.user, "multinic");
        assert!(
            says(&preparing, "ALTER USER 'multinic'@'%'") && says(&preparing, "ALTER USER 'multinic-b'@'%'")
        );
        assert!(preparing.init_sql().contains("BY 'a''b\\\\c';"), "{}", preparing.init_sql());
        assert_ne!(preparing.server_revision, first.server_revision);
        assert_eq!(step(&preparing, NONE).data(), preparing.data());

        let moving = step(&preparing, SERVER);
        assert_eq!(moving.current.controller.user, "multinic-b");
        assert_eq!(moving.current.controller.password.expose_secret(), "a'b\\c");
        assert_eq!(moving.current.agent.user, first.current.agent.user, "nothing is asked of agents");
        assert_eq!(
            (&moving.server_revision, &moving.revision),
            (&preparing.server_revision, &first.revision)
        );
        assert_eq!(step(&moving, SERVER).data(), moving.data());

        let done = step(&moving, ALL);
        assert!(done.other.is_none() && says(&done, "DROP USER IF EXISTS 'multinic'@'%'"));
        assert!(!says(&done, "ALTER USER 'multinic'@'%'"), "{}", done.init_sql());
        assert_ne!(done.server_revision, moving.server_revision);
        assert_eq!(step(&done, ALL).data(), done.data());
        // No longer said, it is known.
        let known = credentials(&DatabaseSpec::default(), Some(&secret(&done)), ALL, &mut fresh);
        assert_eq!(known.data(), done.data());
    }

    #[test]
    fn a_rotation_that_is_asked_for_gives_all_new_passwords_and_goes_on_with_the_names_in_turn() {
        let mut fresh = counting();
        let mut now = credentials(&spec(None, None, Some("spring")), None, NONE, &mut fresh);
        let mut names = Vec::new();
        for rotation in ["spring", "summer", "autumn"] {
            for _ in 0..4 {
                let wanted = spec(None, None, Some(rotation));
                now = credentials(&wanted, Some(&secret(&now)), ALL, &mut fresh);
            }
            assert!(now.other.is_none());
            let Accounts { controller, agent, backup: _ } = &now.current;
            names.push((
                controller.user.clone(),
                agent.user.clone(),
                controller.password.expose_secret().to_owned(),
            ));
        }
        let users: Vec<_> = names.iter().map(|(user, agent, _)| (user.as_str(), agent.as_str())).collect();
        let (a, b) = (("multinic", "multinic-agent"), ("multinic-b", "multinic-agent-b"));
        assert_eq!(users, [a, b, a]);
        let passwords: BTreeSet<_> = names.iter().map(|(_, _, password)| password).collect();
        assert_eq!(passwords.len(), 3);
    }

    #[test]
    fn a_rotation_that_waits_for_a_node_that_is_away_is_ended_once_it_is_said_so() {
        let mut fresh = counting();
        let wanted = |end: Option<&str>| {
            let mut spec = spec(None, None, Some("summer"));
            spec.credentials.get_or_insert_default().end_rotation = end.map(str::to_owned);
            spec
        };
        let first = credentials(&spec(None, None, Some("spring")), None, NONE, &mut fresh);
        let mut step = |known: &Credentials, end, progress| {
            credentials(&wanted(end), Some(&secret(known)), progress, &mut fresh)
        };
        // What was said once ends no other one.
        let said = step(&first, Some("now"), ALL);
        assert_eq!(said.ended.as_deref(), Some("now"));
        let moving = step(&said, Some("now"), SERVER);
        let waiting = step(&moving, Some("now"), SERVER);
        assert!(waiting.other.is_some());
        assert!(step(&waiting, Some("again"), NONE).other.is_some(), "the server is not there");
        let done = step(&waiting, Some("again"), SERVER);
        assert!(done.other.is_none() && done.current.controller.user == "multinic-b");
        assert!(says(&done, "DROP USER IF EXISTS 'multinic'@'%'"));
        assert_eq!(done.ended.as_deref(), Some("again"));
        assert_eq!(step(&done, None, SERVER).annotations(), done.annotations());
    }

    #[test]
    fn a_rotation_changes_what_is_generated_for_backups_and_the_administrator_too() {
        let mut fresh = counting();
        let first = credentials(&spec(None, None, Some("spring")), None, NONE, &mut fresh);
        let mut step = |known: &Credentials, progress| {
            credentials(&spec(None, None, Some("summer")), Some(&secret(known)), progress, &mut fresh)
        };
        let root = |it: &Credentials| it.root_password.expose_secret().to_owned();
        let backup = |it: &Credentials| {
            let Account { user, password } = &it.current.backup;
            (user.clone(), password.expose_secret().to_owned())
        };
        let preparing = step(&first, ALL);
        assert_ne!(root(&preparing), root(&first));
        assert_eq!(backup(&preparing), backup(&first), "the server that runs knows no other one");
        let moving = step(&preparing, SERVER);
        assert_eq!(backup(&moving).0, "multinic-backup-b");
        assert_ne!(backup(&moving).1, backup(&first).1);
        assert!(says(&moving, "ALTER USER 'multinic-backup'@'%'"), "one that is made just now goes on");
        let done = step(&moving, ALL);
        assert_eq!((root(&done), backup(&done)), (root(&preparing), backup(&moving)));
        assert!(says(&done, "DROP USER IF EXISTS 'multinic-backup'@'%'"));
    }

    #[test]
    fn a_rotation_that_an_earlier_version_began_goes_on_with_one_account_of_backups() {
        let mut fresh = counting();
        let wanted = spec(None, None, Some("summer"));
        let first = credentials(&spec(None, None, Some("spring")), None, NONE, &mut fresh);
        let mut now = secret(&credentials(&wanted, Some(&secret(&first)), ALL, &mut fresh));
        now.data
            .as_mut()
            .unwrap()
            .retain(|key, _| !key.ends_with("backup-username") && key != "next-backup-password");
        for (user, is_over) in [("multinic-b", false), ("multinic-b", true)] {
            let step = credentials(&wanted, Some(&now), ALL, &mut fresh);
            assert_eq!((step.current.controller.user.as_str(), step.other.is_none()), (user, is_over));
            assert_eq!(step.current.backup.user, "multinic-backup");
            assert!(says(&step, "ALTER USER 'multinic-backup'@'%'"));
            now = secret(&step);
        }
    }

    #[test]
    fn what_is_wanted_meanwhile_waits_for_the_end_of_a_rotation() {
        let mut fresh = counting();
        let first = credentials(&spec(Some("a"), None, None), None, NONE, &mut fresh);
        let second = credentials(&spec(Some("b"), None, None), Some(&secret(&first)), ALL, &mut fresh);
        let meanwhile = credentials(&spec(Some("c"), None, None), Some(&secret(&second)), NONE, &mut fresh);
        assert_eq!(meanwhile.data(), second.data());
        let mut now = meanwhile;
        for _ in 0..6 {
            now = credentials(&spec(Some("c"), None, None), Some(&secret(&now)), ALL, &mut fresh);
        }
        assert_eq!((now.current.controller.user.as_str(), now.other.is_none()), ("c", true));
        for gone in ["a", "b"] {
            assert!(says(&now, &format!("DROP USER IF EXISTS '{gone}'@'%'")), "{}", now.init_sql());
        }
        // And it comes back.
        for _ in 0..4 {
            now = credentials(&spec(Some("a"), None, None), Some(&secret(&now)), ALL, &mut fresh);
        }
        assert_eq!(now.current.controller.user, "a");
        assert!(!says(&now, "DROP USER IF EXISTS 'a'@'%'"), "{}", now.init_sql());
    }

    #[test]
    fn what_is_said_of_an_end_before_programs_move_ends_nothing() {
        let mut fresh = counting();
        let wanted = |rotation: &str, end: Option<&str>| {
            let mut spec = spec(None, None, Some(rotation));
            spec.credentials.get_or_insert_default().end_rotation = end.map(str::to_owned);
            spec
        };
        let mut step = |known: Option<&Credentials>, wanted: &DatabaseSpec, progress| {
            let known = known.map(secret);
            credentials(wanted, known.as_ref(), progress, &mut fresh)
        };
        let first = step(None, &wanted("spring", None), NONE);
        let preparing = step(Some(&first), &wanted("summer", None), ALL);
        let early = wanted("summer", Some("early"));
        for progress in [NONE, SERVER] {
            let said = step(Some(&preparing), &early, progress);
            assert_eq!(said.ended.as_deref(), Some("early"));
            assert!(says(&said, "ALTER USER 'multinic'@'%'"), "nobody is locked out");
        }
        let said = step(Some(&preparing), &early, NONE);
        let moving = step(Some(&said), &early, SERVER);
        assert_eq!(moving.current.controller.user, "multinic-b");
        assert!(step(Some(&moving), &early, SERVER).other.is_some());
        assert!(step(Some(&moving), &wanted("summer", Some("now")), SERVER).other.is_none());
    }

    #[test]
    fn a_server_finds_what_it_was_started_with_until_it_is_started_with_something_else() {
        let mut fresh = counting();
        let first = credentials(&DatabaseSpec::default(), None, NONE, &mut fresh);
        let mut known = secret(&first);
        // The server is never started again.
        for password in ["one", "another"] {
            let now = credentials(&spec(None, Some(password), None), Some(&known), NONE, &mut fresh)
                .keeping(Some(&known), Some(first.init_key()));
            let (data, before) = (now.data(), first.data());
            assert_eq!(data.get(&first.init_key()), before.get(&first.init_key()));
            assert!(data.contains_key(&now.init_key()) && now.init_key() != first.init_key());
            assert_eq!(data.keys().filter(|key| key.starts_with("init.")).count(), 2);
            known = secret(&now);
        }
        let now = credentials(&spec(None, Some("another"), None), Some(&known), ALL, &mut fresh);
        let key = now.init_key();
        let now = now.keeping(Some(&known), Some(key));
        assert_eq!(now.data().keys().filter(|key| key.starts_with("init.")).count(), 1);
    }

    #[test]
    fn a_server_of_an_earlier_version_finds_what_it_mounts() {
        let mut fresh = counting();
        let mut old = secret(&credentials(&DatabaseSpec::default(), None, NONE, &mut fresh));
        let data = old.data.as_mut().unwrap();
        data.retain(|key, _| !key.starts_with("init."));
        data.insert("init.sql".to_owned(), ByteString(b"SELECT 1".to_vec()));
        let now = credentials(&DatabaseSpec::default(), Some(&old), NONE, &mut fresh)
            .keeping(Some(&old), Some("init.sql".to_owned()));
        assert_eq!(now.data().get("init.sql").unwrap().0, b"SELECT 1");
    }

    #[test]
    fn no_debug_output_holds_a_password() {
        let credentials = credentials(&DatabaseSpec::default(), None, NONE, counting());
        let text = format!("{credentials:?}");
        let Accounts { controller, agent, backup } = &credentials.current;
        let accounts = [controller, agent, backup].map(|account| &account.password);
        for password in accounts.into_iter().chain([&credentials.root_password]) {
            assert!(!text.contains(password.expose_secret()), "{text}");
        }
    }
}
