//! Values that can't be meant are refused, and the message names the key.

use crate::helm::{CHART, Helm};

/// `--set` arguments, and what the message says.
const REFUSED: [(&str, &[&str]); 38] = [
    ("agent.pollIntervall=30s", &["/agent", "'pollIntervall'"]),
    ("agents.enabled=true", &["'agents'"]),
    ("agent.pollInterval=30", &["/agent/pollInterval", "string"]),
    ("agent.pollInterval=soon", &["/agent/pollInterval", "does not match pattern"]),
    ("agent.dataSource=mariadb", &["/agent/dataSource", "'auto', 'db', 'nodecr'"]),
    ("agent.metricsPort=70000", &["/agent/metricsPort", "65,535"]),
    ("agent.backoff.multiplier=0.5", &["/agent/backoff/multiplier"]),
    ("agent.maxConcurrentTasks=5", &["/agent", "'maxConcurrentTasks'"]),
    ("agent.installDropIn=perhaps", &["/agent/installDropIn", "boolean"]),
    ("agent.config.INSTALL_DROPIN=true", &["/agent/config", "INSTALL_DROPIN"]),
    ("agent.config.NODE_NAME=x", &["/agent/config", "NODE_NAME"]),
    ("operatorConfig.POLL_FAST_INTERVALL=1s", &["/operatorConfig", "POLL_FAST_INTERVALL"]),
    ("operatorConfig.SINKS=database", &["/operatorConfig", "SINKS"]),
    ("operatorConfig.DOWN_PORT_FAST_RETRY_MAX=7", &["/operatorConfig/DOWN_PORT_FAST_RETRY_MAX"]),
    ("image.pullPolicy=Sometimes", &["/image/pullPolicy"]),
    ("image.digest=0a", &["/image/digest"]),
    ("image.repository=registry.example/multinic-agent", &["image.agentRepository"]),
    ("controller.sinks={kubernetes,mysql}", &["/controller/sinks/1"]),
    ("controller.replicas=two", &["/controller/replicas"]),
    ("persistence.enabled=true,controller.replicas=2", &["controller.replicas", "persistence.enabled"]),
    ("agent.dataSource=db", &["agent.dataSource", "database.host is empty"]),
    ("database.host=db.example", &["database.existingSecret"]),
    (
        "database.host=db.example,database.password=x,database.existingSecret=y",
        &["database.existingSecret and database.password"],
    ),
    (
        "database.host=db.example,database.password=x,database.agent.user=a",
        &["database.agent.existingSecret"],
    ),
    ("database.host=db.example,database.password=x,database.agent.password=a", &["database.agent.user"]),
    (
        "database.host=db.example,database.password=x,controller.sinks={kubernetes}",
        &["controller.sinks is [kubernetes]", "agents read the database"],
    ),
    (
        "database.host=db.example,database.password=x,agent.dataSource=nodecr,controller.sinks={database}",
        &["controller.sinks is [database]", "MultiNicNodeConfig"],
    ),
    ("uninstall.timeout=10", &["/uninstall/timeout"]),
    ("uninstall.cleanNodes=true,agent.enabled=false", &["uninstall.cleanNodes", "agent.enabled"]),
    ("operator.spec=5", &["/operator/spec"]),
    ("operator.enabled=true,controller.enabled=false", &["controller.enabled is false"]),
    ("operator.enabled=true,persistence.enabled=true", &["persistence.enabled", "operator.spec.database"]),
    (
        "operator.enabled=true,operator.spec.database.enabled=true,database.host=db.example,database.password=x",
        &["database.host and operator.spec.database.enabled"],
    ),
    (
        "operator.enabled=true,database.host=db.example,database.existingSecret=y,database.passwordKey=pw",
        &["database.passwordKey=pw"],
    ),
    (
        "operator.enabled=true,database.host=db.example,database.existingSecret=y,database.tls.caSecret=ca",
        &["database.tls.caSecret"],
    ),
    (
        "operator.enabled=true,operatorConfig.RECONCILE_MODE=manual",
        &["operatorConfig.RECONCILE_MODE", "operator.spec.reconcileTrigger"],
    ),
    ("controller.sinks={kubernetes,database}", &["controller.sinks", "database.host is empty"]),
    (
        "database.host=db.example,database.password=x,database.tls.caSecret=ca,database.tls.mode=insecure",
        &["database.tls.mode"],
    ),
];

#[test]
fn wrong_values_are_refused_by_their_key() {
    let Some(helm) = Helm::installed() else { return };
    let mut wrong = Vec::new();
    for (values, words) in REFUSED {
        let output = helm.try_run(&["template", "multinic", CHART, "--set", values]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || words.iter().any(|word| !said.contains(word)) {
            wrong.push(format!("--set {values}: {words:?} is not in: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_chart_passes_the_strict_lint() {
    let Some(helm) = Helm::installed() else { return };
    helm.run(&["lint", "--strict", CHART]);
    helm.refused(&["lint", "--strict", CHART, "--set", "agent.metricsPort=no"]);
}
