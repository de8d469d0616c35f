//! A server as the manifest starts it, with the accounts that the operator makes.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use multinic_api::operator::{DatabaseCredentials, DatabaseSpec};
use multinic_operator::credentials::Credentials;
use multinic_operator::manifests::Manifests;
use multinic_operator::tls::{Keys, keys};
use multinic_testbed::program::Program;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};

/// A busy machine needs a part of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that is run by the commands of the manifest, in a folder in place of its volumes.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub port: u16,
    program: Option<Program>,
}

impl Server {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["var/lib/mysql", "run/mysqld", "etc/multinic", "etc/multinic-tls", "tmp"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = Self { folder, port, program: None };
        server.prepare();
        server.show(&keys(None, &hosts(), Timestamp::now()).unwrap());
        server
    }

    /// Puts a certificate where the server reads it, as a kubelet does when the Secret changes.
    pub fn show(&self, keys: &Keys) {
        let folder = self.folder.path().join("etc/multinic-tls");
        for (name, text) in [("tls.key", keys.pair.key.expose_secret()), ("tls.crt", &keys.pair.certificate)]
        {
            let new = folder.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, folder.join(name)).unwrap();
        }
    }

    /// A command of the manifest, for this folder, this port and this user.
    fn command(&self, arguments: &[String]) -> Command {
        let here = |path: &str| format!("={}{path}", self.folder.path().display());
        let arguments = arguments.iter().map(|argument| match argument.as_str() {
            "--bind-address=*" => "--bind-address=127.0.0.1".to_owned(),
            "--port=3306" => format!("--port={}", self.port),
            other => other.replacen("=/", &here("/"), 1),
        });
        let arguments: Vec<String> = arguments.collect();
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).env("TMPDIR", self.folder.path().join("tmp"));
        if nix::unistd::geteuid().is_root() {
            command.arg("--user=root");
        }
        command
    }

    pub fn prepare(&self) {
        let pod = pod();
        let container = &pod.init_containers.unwrap()[0];
        let output = self.command(container.command.as_ref().unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts it, or starts it again, with these accounts.
    pub fn start(&mut self, credentials: &Credentials) {
        self.start_with(&credentials.data()[&credentials.init_key()].0);
    }

    /// The same with what the Secret holds.
    pub fn start_with(&mut self, sql: &[u8]) {
        self.stop();
        let sql = String::from_utf8(sql.to_vec()).unwrap();
        let sql = sql.replace("'mysql'@'localhost'", &format!("'{}'@'localhost'", local()));
        let sql =
            sql.replace("'localhost', 'mysql', 'mysql'", &format!("'localhost', 'mysql', '{}'", local()));
        fs::write(self.folder.path().join("etc/multinic/init.sql"), sql).unwrap();
        let pod = pod();
        let command = self.command(pod.containers[0].command.as_ref().unwrap());
        let log: PathBuf = self.folder.path().join("log");
        self.program = Some(Program::start("mariadbd", command, log).unwrap());
    }

    /// Whether it passes the startup probe of pods with these accounts, and what that says if not. The user whom the server knows by the
    /// socket is `mysql` in a pod; here it is [`local`], whom [`Self::start_with`] puts in his place.
    pub fn probe(&self, accounts: &Credentials) -> Result<(), String> {
        let pod = pod();
        let probe = pod.containers[0].startup_probe.clone().unwrap().exec.unwrap().command.unwrap();
        let probe = probe.iter().map(|it| match it.starts_with("--execute=") {
            true => format!("--execute={}", accounts.question()),
            false => it.clone(),
        });
        let arguments =
            probe.map(|argument| argument.replace("--user=mysql", &format!("--user={}", local())));
        let folder = format!("--socket={}", self.folder.path().display());
        let arguments: Vec<String> = arguments.map(|it| it.replacen("--socket=", &folder, 1)).collect();
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]);
        if nix::unistd::geteuid().is_root() {
            for place in ["", "run", "run/mysqld"] {
                let open = fs::Permissions::from_mode(0o755);
                fs::set_permissions(self.folder.path().join(place), open).unwrap();
            }
            command.uid(nix::unistd::User::from_name(&local()).unwrap().unwrap().uid.as_raw());
        }
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// What it wrote into its log since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Ends it, and its data stay.
    pub fn stop(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.terminate(PATIENCE).unwrap();
        }
    }

    /// Where its data are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("var/lib/mysql")
    }

    pub async fn login(&self, user: &str, password: &str, database: &str) -> Result<MySqlConnection, String> {
        let url = format!("mysql://{user}:{password}@127.0.0.1:{}/{database}?ssl-mode=disabled", self.port);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match MySqlConnection::connect(&url).await {
                Ok(connection) => return Ok(connection),
                // It does not listen yet.
                Err(sqlx::Error::Io(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// The names that it has here.
pub fn hosts() -> Vec<String> {
    ["localhost", "127.0.0.1"].map(str::to_owned).to_vec()
}

/// Who asks the server by its socket: nobody, where the tests are root, whom the server knows as its administrator.
fn local() -> String {
    let own = nix::unistd::geteuid();
    if own.is_root() {
        return "nobody".to_owned();
    }
    nix::unistd::User::from_uid(own).unwrap().unwrap().name
}

fn pod() -> k8s_openapi::api::core::v1::PodSpec {
    Manifests::of("any").unwrap().database.stateful_set.spec.unwrap().template.spec.unwrap()
}

pub fn spec(user: &str, password: Option<&str>) -> DatabaseSpec {
    let credentials = DatabaseCredentials {
        user: Some(user.to_owned()),
        password: password.map(str::to_owned),
        ..DatabaseCredentials::default()
    };
    DatabaseSpec { enabled: true, credentials: Some(credentials), ..DatabaseSpec::default() }
}

pub fn fresh() -> impl FnMut() -> String {
    let mut count = 0;
    move || {
        count += 1;
        format!("generated{count}")
    }
}

pub async fn does(connection: &mut MySqlConnection, sql: &str) -> Result<(), String> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    sql.execute(connection).await.map(drop).map_err(|error| error.to_string())
}
