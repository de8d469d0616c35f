//! The accounts of controller, agents and backups.

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    AGENT_PASSWORD, AGENT_USER, AGENT_USERNAME, BACKUP_PASSWORD, BACKUP_USER, BACKUP_USERNAME, PASSWORD, USER,
};

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its user.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

impl Account {
    /// The names that accounts have in turn.
    pub(super) fn names(base: &str) -> [String; 2] {
        [base.to_owned(), format!("{base}-b")]
    }

    /// The key of the Secret under which its password is for as long as it lives: one key never has another account's.
    pub fn key(&self) -> String {
        format!("password.{}", self.user)
    }

    fn is(&self, other: &Self) -> bool {
        self.user == other.user && self.password.expose_secret() == other.password.expose_secret()
    }

    /// One with the other name and this password.
    fn beside(&self, base: &str, password: String) -> Self {
        let [one, other] = Self::names(base);
        let user = if self.user == one { other } else { one };
        Self { user, password: password.into() }
    }
}

/// Those that change together.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// The controller's.
    pub controller: Account,
    /// The agents'.
    pub agent: Account,
    /// That of backups.
    pub backup: Account,
}

impl Accounts {
    /// Their users.
    pub(super) fn users(&self) -> impl Iterator<Item = String> {
        let Self { controller, agent, backup } = self;
        [controller, agent, backup].map(|account| account.user.clone()).into_iter()
    }

    /// The accounts to have instead, if these are not what is wanted.
    pub(super) fn wanted(
        &self,
        base: &str,
        password: Option<&str>,
        all_anew: bool,
        mut fresh: impl FnMut() -> String,
    ) -> Option<Self> {
        let Self { controller, agent, backup } = self;
        let has_name = Account::names(base).contains(&controller.user);
        let has_password = password.is_none_or(|password| controller.password.expose_secret() == password);
        let is_anew = all_anew && password.is_none();
        let wanted = Self {
            controller: if has_name && has_password && !is_anew {
                controller.clone()
            } else {
                // A password that nobody asked to be another one goes on under another name.
                let known = || controller.password.expose_secret().to_owned();
                let password = password.map(str::to_owned);
                controller.beside(base, password.unwrap_or_else(|| if is_anew { fresh() } else { known() }))
            },
            agent: if all_anew { agent.beside(AGENT_USER, fresh()) } else { agent.clone() },
            backup: if all_anew { backup.beside(BACKUP_USER, fresh()) } else { backup.clone() },
        };
        let is_same = wanted.controller.is(controller) && wanted.agent.is(agent) && wanted.backup.is(backup);
        (!is_same).then_some(wanted)
    }

    /// Keys and values of a Secret.
    pub(super) fn entries(&self, prefix: &str) -> Vec<(String, String)> {
        let Self { controller, agent, backup } = self;
        let roles = [
            (controller, USER, PASSWORD),
            (agent, AGENT_USERNAME, AGENT_PASSWORD),
            (backup, BACKUP_USERNAME, BACKUP_PASSWORD),
        ];
        let entries = roles.into_iter().flat_map(|(Account { user, password }, user_key, password_key)| {
            let password = password.expose_secret().to_owned();
            [(format!("{prefix}{user_key}"), user.clone()), (format!("{prefix}{password_key}"), password)]
        });
        let own = [controller, agent, backup]
            .map(|account| (account.key(), account.password.expose_secret().to_owned()));
        entries.chain(own).collect()
    }
}
