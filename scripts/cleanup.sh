#!/usr/bin/env bash
# Takes MultiNIC out of the cluster. Without more, only the programs: definitions, objects and NICs stay.
#
#   scripts/cleanup.sh [--dry-run]
#
# --dry-run changes nothing and says what would be run. Variables, with their defaults:
#
#   NAMESPACE=multinic-system  RELEASE_NAME=multinic
#   CLEAN_NODES=false          true: first delete all OpenstackConfigs and MultiNicNodeConfigs and wait until the agents have taken
#                              the NICs off the nodes. If some don't, it says which, and nothing else is taken away
#   DELETE_DEFINITIONS=false   true: and the definitions, once no object is left
#   DELETE_NAMESPACE=false     true: and the namespace
#   TIMEOUT=600                seconds for the agents, and for an operator
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/steps.sh
. scripts/steps.sh

case ${1:-} in
  '') ;;
  --dry-run) DRY_RUN=true ;;
  -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' scripts/cleanup.sh
    exit 0
    ;;
  *) fail "$1: there is --dry-run" ;;
esac

NAMESPACE=${NAMESPACE:-multinic-system}
RELEASE_NAME=${RELEASE_NAME:-multinic}
CLEAN_NODES=${CLEAN_NODES:-false}
DELETE_DEFINITIONS=${DELETE_DEFINITIONS:-false}
DELETE_NAMESPACE=${DELETE_NAMESPACE:-false}
TIMEOUT=${TIMEOUT:-600}
flag CLEAN_NODES
flag DELETE_DEFINITIONS
flag DELETE_NAMESPACE
[[ $TIMEOUT =~ ^[0-9]+$ ]] || fail "TIMEOUT is $TIMEOUT; it is a number of seconds"

# The objects of a kind in all namespaces, a line each; none where the definition is not there. A read that fails is no answer.
objects() { # DEFINITION COLUMNS
  local there
  there=$(kubectl get customresourcedefinition "$1" --ignore-not-found --output name) || return 1
  [[ -z $there ]] || kubectl get "$1" --all-namespaces --no-headers --output "custom-columns=$2"
}
configs() {
  objects openstackconfigs.multinic.example.com KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name
}
left() {
  configs && objects multinicnodeconfigs.multinic.io KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name,STATE:.status.state
}
# Agents that read the database, whose nodes have NICs of ours: no object waits for these. An agent that cannot read the database, or
# does not answer, is one of them.
holding() {
  local agents pod node source port held env='.spec.containers[0].env'
  agents=$(kubectl --namespace "$NAMESPACE" get pods --selector app.kubernetes.io/name=multinic-agent --output \
    "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {${env}[?(@.name=='DATA_SOURCE')].value} \
{${env}[?(@.name=='HEALTH_PORT')].value}{'\\n'}{end}") || return 1
  while read -r pod node source port; do
    [[ $source == db ]] || continue
    held=$(kubectl get --raw "/api/v1/namespaces/$NAMESPACE/pods/$pod:$port/proxy/health" 2>/dev/null |
      sed -n 's/.*"held_interfaces":\([0-9]*\).*/\1/p') || held=
    [[ $held == 0 ]] || printf 'Node %s has NICs of ours: %s\n' "$node" "${held:-its agent does not say}"
  done <<<"$agents"
}
# What an operator made for the whole cluster.
of_operator() {
  kubectl get \
    clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,validatingwebhookconfigurations \
    --selector "multinic.example.com/operator-namespace=$NAMESPACE" --output name
}
# Waits until a list is empty. A failed read is tried again.
until_empty() { # FUNCTION
  local list
  until list=$("$1") && [[ -z $list ]]; do
    ((SECONDS < deadline)) || return 1
    sleep 1
  done
}

still_there() {
  left
  fail "this is left after ${TIMEOUT}s: controller or agents did not answer, or a node needs the NIC (docs/operations.md). Nothing else was taken away"
}

step 6 "What is there"
need kubectl helm
kubectl get --raw /readyz >/dev/null || fail "the cluster of this kubeconfig does not answer"
say "cluster: $(kubectl config current-context)"
helm list --namespace "$NAMESPACE" --filter "^$RELEASE_NAME\$"
left

step 6 "NICs of the nodes"
if [[ $CLEAN_NODES == false ]]; then
  say "they stay (CLEAN_NODES=true takes them away)"
else
  deadline=$((SECONDS + TIMEOUT))
  list=$(left)
  if [[ -n $list ]]; then
    run kubectl delete openstackconfigs --all --all-namespaces --wait=false
    $DRY_RUN || until_empty configs || still_there
    # The controller has taken away what it made. What is left somebody made by hand.
    run kubectl --namespace "$NAMESPACE" delete multinicnodeconfigs --all --wait=false
    $DRY_RUN || until_empty left || still_there
    $DRY_RUN || while read -r line; do say "gone: $line"; done <<<"$list"
  fi
  $DRY_RUN || until_empty holding || {
    holding
    still_there
  }
  $DRY_RUN || say "no node has a NIC of ours"
fi

step 6 "Programs"
release=$(helm list --namespace "$NAMESPACE" --filter "^$RELEASE_NAME\$" --short)
# While it runs, an operator takes away what it made for the whole cluster. From this version on Helm sees to that before the release
# goes, and to the nodes before it, where the release says so: these need the operator's programs.
hooks=
[[ -z $release ]] || hooks=$(helm get hooks "$RELEASE_NAME" --namespace "$NAMESPACE")
operators=$(objects multinicoperators.multinic.example.com NAMESPACE:.metadata.namespace)
if [[ $hooks != *clean-cluster* ]] && grep -qx "$NAMESPACE" <<<"$operators"; then
  run kubectl --namespace "$NAMESPACE" delete multinicoperators --all
  deadline=$((SECONDS + TIMEOUT))
  $DRY_RUN || until_empty of_operator || fail "the operator has not taken away: $(of_operator | tr '\n' ' ')"
fi
if [[ -n $release ]]; then
  # Two steps of the Job before it, each with its own limit.
  run helm uninstall "$RELEASE_NAME" --namespace "$NAMESPACE" --wait --timeout "$((2 * TIMEOUT + 60))s"
else
  say "there is no release $RELEASE_NAME in $NAMESPACE"
fi

step 6 "Definitions"
if [[ $DELETE_DEFINITIONS == false ]]; then
  say "they stay (DELETE_DEFINITIONS=true takes them away)"
else
  list=$(left)
  if [[ -n $list ]] && ! $DRY_RUN; then
    fail "these objects are left, and would go with their definitions:
$list"
  fi
  run kubectl delete --ignore-not-found --filename charts/multinic/crds
fi

step 6 "Namespace"
if [[ $DELETE_NAMESPACE == false ]]; then
  say "it stays (DELETE_NAMESPACE=true takes it away)"
else
  list=$(left)
  if grep -q "^[^ ]* *$NAMESPACE " <<<"$list" && ! $DRY_RUN; then
    fail "these objects are left, and would keep the namespace from ending:
$list"
  fi
  run kubectl delete --ignore-not-found namespace "$NAMESPACE"
fi

step 6 "What is left"
if $DRY_RUN; then
  say "nothing was changed"
else
  left
  say "done"
fi
