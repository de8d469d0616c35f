//! `multinic-agent doctor --database`: whether the agent can work with its database, and where it cannot, how to mend it.

use std::fmt::Write;
use std::process::ExitCode;

use multinic_core::NodeName;
use multinic_store::check::{CheckError, Checked, Found, Step};
use multinic_store::{AgentSource, StoreError, Tls};
use serde_json::{Value, json};

use crate::config::{PlanOutput, Settings};

/// The agent cannot work with its database.
const FAILED: u8 = 2;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Ok,
    Warn,
    Fail,
}

impl Severity {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// A step in words.
struct Told {
    step: &'static str,
    milliseconds: u128,
    severity: Severity,
    what: String,
    mend: Option<String>,
}

/// Looks at the database alone: nothing of the node is opened.
pub(crate) async fn doctor(settings: &Settings, output: PlanOutput) -> anyhow::Result<ExitCode> {
    let source = AgentSource::new(&settings.database()?, settings.node.clone());
    let told: Vec<Told> = source.check().await.iter().map(|checked| tell(&settings.node, checked)).collect();
    match output {
        PlanOutput::Text => print!("{}", text(&told)),
        PlanOutput::Json => println!("{:#}", json(&settings.node, &told)),
    }
    let failed = told.iter().any(|told| told.severity == Severity::Fail);
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn tell(node: &NodeName, checked: &Checked) -> Told {
    let Checked { step, took, outcome } = checked;
    let (severity, what, mend) = match outcome {
        Ok(found) => {
            let (what, mend) = found_in_words(node, found);
            (if mend.is_some() { Severity::Warn } else { Severity::Ok }, what, mend)
        }
        Err(error) => (Severity::Fail, error.to_string(), Some(mend(*step, error).to_owned())),
    };
    Told { step: step.name(), milliseconds: took.as_millis(), severity, what, mend }
}

/// What was found, and what is to be done about it.
fn found_in_words(node: &NodeName, found: &Found) -> (String, Option<String>) {
    match found {
        Found::Database(place) => (place.to_string(), None),
        Found::Addresses(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            (format!("the host is {}", addresses.join(", ")), None)
        }
        Found::Connected(address) => (format!("{address} takes connections"), None),
        Found::LoggedIn(tls) => {
            let tls = match tls {
                Tls::Disabled => "without TLS",
                Tls::Unverified => "over TLS, the certificate unchecked",
                Tls::Verified { .. } => "over TLS, the certificate checked",
            };
            (format!("the server takes the login, {tls}"), None)
        }
        Found::Opened(path) => (format!("{} can be opened", path.display()), None),
        Found::Tables(missing) if missing.is_empty() => ("all tables and columns are there".to_owned(), None),
        Found::Tables(missing) => (
            format!("can be used, and lack {}", missing.join(", ")),
            Some("start this project's controller on the database, which adds them".to_owned()),
        ),
        Found::Rows { node_known, interfaces, unusable } => rows(node, *node_known, *interfaces, *unusable),
        Found::Writable => ("the agent may write its reports; nothing was written".to_owned(), None),
    }
}

fn rows(node: &NodeName, known: bool, interfaces: usize, unusable: usize) -> (String, Option<String>) {
    let what = format!("interfaces of node {node}: {interfaces}");
    if unusable > 0 {
        let what = format!("{what}; rows that cannot be used: {unusable}");
        return (what, Some("`multinic-agent plan` names the rows and what is wrong with them".to_owned()));
    }
    if !known {
        let what = format!("no table names node {node}");
        let mend =
            "NODE_NAME must be the name of the server in OpenStack, as in node_table.attached_node_name";
        return (what, Some(mend.to_owned()));
    }
    if interfaces == 0 {
        let mend = "correct NODE_NAME if this is another node's name; else name the VM in an OpenstackConfig";
        return (what, Some(mend.to_owned()));
    }
    (what, None)
}

fn mend(step: Step, error: &CheckError) -> &'static str {
    match error {
        CheckError::Store(StoreError::TimedOut { .. }) => {
            "look at the server's load and locks and at firewalls; DB_CONNECT_TIMEOUT and DB_STATEMENT_TIMEOUT are the limits"
        }
        CheckError::Store(StoreError::Tls { .. }) => {
            "DB_TLS=disabled goes without TLS; else have the server offer it with a certificate for DB_HOST, of an authority in DB_TLS_CA"
        }
        CheckError::Store(StoreError::CaFile { .. }) => "correct DB_TLS_CA, or mount the file",
        CheckError::Store(StoreError::NoDatabase { .. }) => {
            "correct DB_NAME, or create the database and start the controller on it"
        }
        _ => match step {
            Step::Database => "correct DB_HOST or DATABASE_URL",
            Step::Name => {
                "correct DB_HOST (or the host of DATABASE_URL), or have this node's DNS know the name; in a pod of the host's \
                 network that is the cluster's only with dnsPolicy ClusterFirstWithHostNet"
            }
            Step::Connection => {
                "correct DB_HOST and DB_PORT; the server must run and listen there, and no firewall or NetworkPolicy be in between"
            }
            Step::Login => {
                "correct DB_USER and DB_PASSWORD; the user must be allowed from this host, and a server that asks for TLS needs \
                 DB_TLS"
            }
            Step::File => {
                "correct DATABASE_URL; the controller makes the file, and it must be mounted and readable here"
            }
            Step::Tables => {
                "correct DB_NAME, start the controller on this database, or let DB_USER read its tables (GRANT SELECT)"
            }
            Step::Rows => {
                "let DB_USER read multi_interface, multi_subnet, node_table, multi_removal and multinic_meta (GRANT SELECT)"
            }
            Step::Rights => {
                "let DB_USER write its columns: GRANT UPDATE (netplan_success, observed_name, observed_addresses, last_error, \
                 observed_at, modified_at) ON multi_interface, and UPDATE (released_at) ON multi_removal; a file and its folder \
                 must be writable"
            }
        },
    }
}

fn text(told: &[Told]) -> String {
    let mut out = String::new();
    for Told { step, milliseconds, severity, what, mend } in told {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{:<4} {step:<10} {milliseconds:>5} ms  {what}", severity.label());
        if let Some(mend) = mend {
            let _ = writeln!(out, "  mend: {mend}");
        }
    }
    out
}

fn json(node: &NodeName, told: &[Told]) -> Value {
    let steps: Vec<Value> = told
        .iter()
        .map(|Told { step, milliseconds, severity, what, mend }| {
            json!({
                "step": step,
                "severity": severity.label(),
                "milliseconds": milliseconds,
                "what": what,
                "mend": mend,
            })
        })
        .collect();
    json!({ "node": node, "steps": steps })
}
