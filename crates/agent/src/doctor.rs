//! `multinic-agent doctor`: what on this node would do harm, and how to mend it.

use std::fmt::Write;
use std::process::ExitCode;

use multinic_core::Slot;
use multinic_core::desired::DesiredNic;
use multinic_core::node::doctor::{Finding, Severity, examine};
use multinic_core::node::{NicTarget, NodePlan, Refusal, RefusalReason, plan};
use multinic_host::Access;
use multinic_host::backend::detect::Detected;
use multinic_host::survey::{DROP_IN, install_drop_in};
use serde_json::{Value, json};

use crate::commands::{Parts, open_source};
use crate::config::{PlanOutput, Settings};
use crate::doctor_database;

/// A NIC is not to be configured as things are.
const REFUSED: u8 = 2;

/// What the command is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct DoctorArgs {
    /// For people or for scripts
    #[arg(long, short, value_enum, default_value_t = PlanOutput::Text)]
    pub output: PlanOutput,
    /// Print the drop-in that keeps systemd-networkd from dropping routes and rules of others, and do nothing else
    #[arg(long)]
    pub print_dropin: bool,
    /// Look at the database instead of the node, step by step: name, connection, login, tables, rows and rights. It needs no
    /// root, changes nothing, and says at the first step that fails how to mend it
    #[arg(long, conflicts_with = "print_dropin")]
    pub database: bool,
}

/// Looks, tells, and touches nothing but the drop-in where that was asked for.
pub async fn doctor(settings: Settings, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.print_dropin {
        print!("{DROP_IN}");
        return Ok(ExitCode::SUCCESS);
    }
    if args.database {
        return doctor_database::doctor(&settings, args.output).await;
    }
    if settings.install_dropin {
        let path = install_drop_in(&settings.host_root)?;
        println!("{path} is written; restart systemd-networkd in a maintenance window");
    }
    let seen = look(&settings).await?;
    match args.output {
        PlanOutput::Text => print!("{}", text(&seen)),
        PlanOutput::Json => println!("{:#}", json(&seen)),
    }
    let refused = seen.findings.iter().any(|finding| finding.severity == Severity::Refuse);
    Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

/// What was found.
struct Seen {
    node: String,
    backend: Detected,
    findings: Vec<Finding>,
    /// Why nothing is known of the NICs that the node is to have.
    unread: Option<String>,
}

async fn look(settings: &Settings) -> anyhow::Result<Seen> {
    // A node that cannot read its source is one that needs a doctor.
    let (node, targets, unread) = match desired(settings).await {
        Ok((node, targets)) => (node, targets, None),
        Err(error) => {
            (Parts::new(settings, Access::Read).await?.node, Vec::new(), Some(format!("{error:#}")))
        }
    };
    let host = &node.host;
    let observed = host.observe().await?;
    let findings = examine(&targets, host.owned(), &observed, &host.survey(&targets).await?);
    Ok(Seen { node: settings.node.to_string(), backend: host.backend().clone(), findings, unread })
}

/// The NICs that the node is to have, as far as they are there, once or more often.
async fn desired(settings: &Settings) -> anyhow::Result<(crate::node::Node, Vec<NicTarget>)> {
    let source = open_source(settings, true).await?;
    let mut agent = Parts::new(settings, Access::Read).await?.agent(settings, source, true);
    let wishes = agent.forecast().await?;
    let wishes = wishes.ok_or_else(|| anyhow::anyhow!("the source is older than what was read before"))?;
    let host = &agent.node.host;
    let observed = host.observe().await?;
    let NodePlan { changes, settled, refused, .. } =
        plan(&wishes.nics, &wishes.releases(), host.owned(), &observed, settings.max_interfaces);
    let changed = changes.into_iter().filter_map(|change| change.target);
    let mut targets: Vec<NicTarget> =
        changed.chain(settled.into_iter().map(|settled| settled.target)).collect();
    // The plan knows not which of several links is meant, and so has no target for them.
    let ambiguous = |nic: &&DesiredNic| {
        let is = |refusal: &Refusal| {
            refusal.mac == nic.mac && matches!(refusal.reason, RefusalReason::AmbiguousMac(_))
        };
        refused.iter().any(is)
    };
    targets.extend(wishes.nics.iter().filter(ambiguous).filter_map(|nic| {
        let slot = nic.slot.or_else(|| Slot::first(settings.max_interfaces).next())?;
        let DesiredNic { mac, addresses, mtu, options, .. } = nic.clone();
        let options = options.resolve(slot);
        Some(NicTarget { mac, name: slot.interface(), addresses, mtu, options })
    }));
    Ok((agent.node, targets))
}

fn text(seen: &Seen) -> String {
    let Seen { node, backend, findings, unread } = seen;
    let mut out = format!("{node}: {} ({})\n", backend.backend.name(), backend.why);
    // Writing to a string does not fail.
    if let Some(problem) = unread {
        let _ = writeln!(out, "the source cannot be read, so its NICs are not checked: {problem}");
    }
    for finding in findings {
        let Finding { code, severity, what, place, mend, mac: _ } = finding;
        let _ = writeln!(out, "\n{} {code}: {what}\n  where: {place}\n  mend:  {mend}", severity.label());
    }
    if findings.is_empty() {
        out.push_str("nothing was found\n");
    }
    out
}

fn json(seen: &Seen) -> Value {
    let findings: Vec<Value> = seen
        .findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.code,
                "severity": finding.severity.label(),
                "mac": finding.mac.map(|mac| mac.to_string()),
                "what": finding.what,
                "where": finding.place,
                "mend": finding.mend,
            })
        })
        .collect();
    json!({
        "node": seen.node,
        "backend": seen.backend.backend.name(),
        "why": seen.backend.why,
        "unread": seen.unread,
        "findings": findings,
    })
}
