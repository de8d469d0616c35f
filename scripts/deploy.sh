#!/usr/bin/env bash
# Builds MultiNIC, brings its images to the nodes, and installs or upgrades it with Helm.
#
#   scripts/deploy.sh [--dry-run] [-- HELM ARGUMENTS…]       such as: -- --set agent.pollInterval=15s
#
# --dry-run changes nothing and says what would be run. Variables, with their defaults:
#
#   NAMESPACE=multinic-system  RELEASE_NAME=multinic
#   IMAGE_NAME=multinic        the controller's image; the agents' is $IMAGE_NAME-agent
#   IMAGE_TAG=                 the chart's appVersion
#   DEPLOY_MODE=tar            tar: the images go to every node by ssh. registry: they are pushed with skopeo; IMAGE_NAME names
#                              the registry. none: they are where nodes find them
#   SKIP_BUILD=false           true: the images are in IMAGES_FOLDER already
#   IMAGES_FOLDER=target/images    with SKIP_BUILD=true. A mariadb.tar in it, for the operator's database, goes to every node too
#   NODES=                     addresses for ssh, by commas; else every node's InternalIP
#   SSH_USER=root  SSH_PORT=22  SSH_KEY_PATH=  SSH_OPTIONS=
#   SSH_PASSWORD= or SSH_PASSWORD_FILE=     where there is no key. Another user than root needs sudo without a password
#   IMPORT_COMMAND='ctr --namespace k8s.io images import -'     what takes an image on a node
#   VALUES=                    a file of values for the chart. An upgrade keeps what earlier ones set
#   OPERATOR=false             true: an operator makes the controller and puts back what others change (docs/operator.md)
#   TIMEOUT=5m                 for the programs to be ready
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/steps.sh
. scripts/steps.sh

CHART=charts/multinic
HELM_ARGUMENTS=()
while (($#)); do
  case $1 in
    --dry-run) DRY_RUN=true ;;
    --)
      shift
      HELM_ARGUMENTS=("$@")
      break
      ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' scripts/deploy.sh
      exit 0
      ;;
    *) fail "$1: there is --dry-run, and -- before arguments for Helm" ;;
  esac
  shift
done

NAMESPACE=${NAMESPACE:-multinic-system}
RELEASE_NAME=${RELEASE_NAME:-multinic}
# Older scripts name the agents' image here.
IMAGE_NAME=${IMAGE_NAME:-multinic}
IMAGE_NAME=${IMAGE_NAME%-agent}
IMAGE_TAG=${IMAGE_TAG:-$(sed -n 's/^appVersion: *//p' "$CHART/Chart.yaml")}
DEPLOY_MODE=${DEPLOY_MODE:-tar}
SKIP_BUILD=${SKIP_BUILD:-false}
[[ -z ${IMAGES_FOLDER:-} || $SKIP_BUILD == true ]] || fail "IMAGES_FOLDER is for SKIP_BUILD=true: a build fills target/images"
IMAGES_FOLDER=${IMAGES_FOLDER:-target/images}
SSH_USER=${SSH_USER:-root}
SSH_PORT=${SSH_PORT:-22}
SSH_KEY_PATH=${SSH_KEY_PATH:-}
IMPORT_COMMAND=${IMPORT_COMMAND:-ctr --namespace k8s.io images import -}
TIMEOUT=${TIMEOUT:-5m}
OPERATOR=${OPERATOR:-false}
flag SKIP_BUILD
flag OPERATOR
IMG=$IMAGE_NAME:$IMAGE_TAG
AGENT_IMG=$IMAGE_NAME-agent:$IMAGE_TAG
VALUE_FILES=()
[[ -z ${VALUES:-} ]] || VALUE_FILES=(--values "$VALUES")
SET=(--set-string "image.registry=,image.repository=$IMAGE_NAME,image.agentRepository=$IMAGE_NAME-agent,image.tag=$IMAGE_TAG")
! $OPERATOR || SET+=(--set operator.enabled=true)

step 9 "Tools and cluster"
need kubectl helm
case $DEPLOY_MODE in
  tar) need ssh ;;
  registry) need skopeo ;;
  none) ;;
  *) fail "DEPLOY_MODE is $DEPLOY_MODE; it is tar, registry or none" ;;
esac
kubectl get --raw /readyz >/dev/null || fail "the cluster of this kubeconfig does not answer"
say "cluster: $(kubectl config current-context), $(kubectl get nodes --output name | wc -l) nodes"
say "release: $RELEASE_NAME in $NAMESPACE; images: $IMG, $AGENT_IMG"

step 9 "Check chart and values"
helm lint --strict --quiet "$CHART" "${VALUE_FILES[@]}" "${SET[@]}"
helm template "$RELEASE_NAME" "$CHART" --namespace "$NAMESPACE" "${VALUE_FILES[@]}" "${SET[@]}" "${HELM_ARGUMENTS[@]}" >/dev/null
say "they are right"

step 9 "Images"
if [[ $SKIP_BUILD == true || $DEPLOY_MODE == none ]]; then
  say "not built"
else
  run scripts/build-image.sh
fi
archives=(multinic.tar multinic-agent.tar)
[[ ! -f $IMAGES_FOLDER/mariadb.tar ]] || archives+=(mariadb.tar)
if [[ $DEPLOY_MODE != none ]] && ! $DRY_RUN; then
  for archive in "${archives[@]}"; do
    [[ -f $IMAGES_FOLDER/$archive ]] || fail "$IMAGES_FOLDER/$archive is not there"
  done
fi

step 9 "Bring them to the nodes"
case $DEPLOY_MODE in
  none) say "they are where nodes find them" ;;
  registry)
    run skopeo copy "oci-archive:$IMAGES_FOLDER/multinic.tar" "docker://$IMG"
    run skopeo copy "oci-archive:$IMAGES_FOLDER/multinic-agent.tar" "docker://$AGENT_IMG"
    ;;
  tar)
    prepare_ssh
    mapfile -t addresses < <(node_addresses)
    ((${#addresses[@]})) || fail "the cluster names no node with an address: set NODES"
    failed=()
    for address in "${addresses[@]}"; do
      for archive in "${archives[@]}"; do
        if $DRY_RUN; then
          say "would import $IMAGES_FOLDER/$archive on $address: $IMPORT_COMMAND"
        elif ! on_node "$address" "$IMPORT_COMMAND" <"$IMAGES_FOLDER/$archive"; then
          failed+=("$address")
          break
        fi
      done
      [[ " ${failed[*]-} " == *" $address "* ]] || $DRY_RUN || say "$address has them"
    done
    ((${#failed[@]} == 0)) || fail "no images on ${failed[*]}; nothing was installed. If ssh does not know a host's key: ssh-keyscan"
    ;;
esac

step 9 "Namespace"
if [[ -z $(kubectl get namespace "$NAMESPACE" --output name --ignore-not-found) ]]; then
  run kubectl create namespace "$NAMESPACE"
fi
# Agents change their node, which only this standard allows.
run kubectl label namespace "$NAMESPACE" --overwrite app.kubernetes.io/part-of=multinic pod-security.kubernetes.io/enforce=privileged

step 9 "Definitions, which Helm would not upgrade"
run kubectl apply --server-side --force-conflicts --filename "$CHART/crds"
run kubectl wait --for=condition=Established --timeout=60s --filename "$CHART/crds"

step 9 "Install or upgrade"
run helm upgrade "$RELEASE_NAME" "$CHART" --install --reset-then-reuse-values --namespace "$NAMESPACE" "${VALUE_FILES[@]}" "${SET[@]}" "${HELM_ARGUMENTS[@]}"

step 9 "Wait until the programs are ready"
if $DRY_RUN; then
  say "would wait for the release's Deployments and DaemonSets, $TIMEOUT at most"
else
  selector=app.kubernetes.io/part-of=multinic,app.kubernetes.io/instance=$RELEASE_NAME
  mapfile -t programs < <(kubectl --namespace "$NAMESPACE" get deployments,daemonsets --selector "$selector" --output name)
  for program in "${programs[@]}"; do
    kubectl --namespace "$NAMESPACE" rollout status "$program" --timeout "$TIMEOUT" || {
      kubectl --namespace "$NAMESPACE" get pods --output wide
      kubectl --namespace "$NAMESPACE" get events --field-selector type=Warning --sort-by .lastTimestamp | tail -n 10
      fail "$program is not ready; what is there stays. To go back: helm rollback $RELEASE_NAME --namespace $NAMESPACE"
    }
  done
fi

if $OPERATOR && ! $DRY_RUN; then
  kubectl --namespace "$NAMESPACE" wait --for=condition=Ready multinicoperator/multinic --timeout "$TIMEOUT" || {
    kubectl --namespace "$NAMESPACE" get multinicoperator/multinic --output 'jsonpath={.status}'
    fail "the operator is not done; what is there stays"
  }
fi

step 9 "What is there"
if $DRY_RUN; then
  say "nothing was changed"
else
  kubectl --namespace "$NAMESPACE" get pods --output wide
  kubectl get openstackconfigs --all-namespaces
  kubectl --namespace "$NAMESPACE" get multinicnodeconfigs
fi
