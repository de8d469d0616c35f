//! A real Keystone, Neutron and Nova on the loopback interface, for one test: `testbed/openstack/openstack.py session`.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Why the cloud could not be had, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum OpenStackError {
    /// The program could not be run or spoken to.
    #[error("cannot speak to testbed/openstack/openstack.py: {0}; it needs Python 3.11 and root")]
    Program(#[from] io::Error),
    /// It ended before it answered; its standard error says why.
    #[error("testbed/openstack/openstack.py ended during {0:?}")]
    Ended(String),
    /// The cloud refused.
    #[error("{command}: {error}")]
    Refused {
        /// The command.
        command: String,
        /// What the cloud said.
        error: String,
    },
    /// An answer that is no answer.
    #[error("{command}: unexpected answer {answer}")]
    Answer {
        /// The command.
        command: String,
        /// What came.
        answer: String,
    },
}

/// A running cloud. It stops with this handle.
#[derive(Debug)]
pub struct OpenStack {
    program: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    endpoints: Value,
    asked: u64,
}

impl OpenStack {
    /// Installs what is missing and starts an empty cloud. Takes half a minute, and minutes the first time.
    pub fn start() -> Result<Self, OpenStackError> {
        Self::session(&[])
    }

    /// The same with a real switch: a server whose guest is told by the command `server-guest` has its ports as NICs there.
    pub fn start_with_switch() -> Result<Self, OpenStackError> {
        Self::session(&["--switch"])
    }

    fn session(arguments: &[&str]) -> Result<Self, OpenStackError> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/openstack/openstack.py");
        let mut program = Command::new("python3")
            .arg(program)
            .arg("session")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("its standard streams are missing");
        let commands = program.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(program.stdout.take().ok_or_else(missing)?);
        let mut cloud = Self { program, commands: Some(commands), answers, endpoints: Value::Null, asked: 0 };
        let mut first = cloud.answer("start")?;
        cloud.endpoints = first.get_mut("ready").map(Value::take).ok_or_else(|| OpenStackError::Answer {
            command: "start".to_owned(),
            answer: first.to_string(),
        })?;
        Ok(cloud)
    }

    /// URLs, users and ids of the cloud.
    pub fn endpoints(&self) -> &Value {
        &self.endpoints
    }

    /// Does one of the commands of `openstack.py commands` and waits until its effect shows.
    pub fn call(&mut self, command: &str, arguments: &Value) -> Result<Value, OpenStackError> {
        self.asked += 1;
        let request = json!({ "id": self.asked, "command": command, "arguments": arguments });
        let commands = self.commands.as_mut().ok_or_else(|| OpenStackError::Ended(command.to_owned()))?;
        writeln!(commands, "{request}")?;
        commands.flush()?;
        let mut answer = self.answer(command)?;
        if let Some(error) = answer.get("error") {
            let error = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Err(OpenStackError::Refused { command: command.to_owned(), error });
        }
        answer
            .get_mut("ok")
            .map(Value::take)
            .ok_or_else(|| OpenStackError::Answer { command: command.to_owned(), answer: answer.to_string() })
    }

    fn answer(&mut self, command: &str) -> Result<Value, OpenStackError> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(OpenStackError::Ended(command.to_owned()));
        }
        serde_json::from_str(&line)
            .map_err(|_| OpenStackError::Answer { command: command.to_owned(), answer: line })
    }
}

impl Drop for OpenStack {
    fn drop(&mut self) {
        // The end of its standard input makes it stop the cloud; leaving before that would leave servers behind.
        self.commands = None;
        let _ = self.program.wait();
    }
}
