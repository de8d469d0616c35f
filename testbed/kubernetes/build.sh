#!/usr/bin/env bash
# Builds the Kubernetes that the tests run against, from the Go modules pinned in go.mod and dns/go.mod. Needs Go 1.26 or newer.
#
#   build.sh api          etcd and kube-apiserver: what `make test` needs (about 9 minutes from nothing on two cores)
#   build.sh oldest       the oldest kube-apiserver that is supported, from oldest/go.mod, for MULTINIC_KUBERNETES=oldest
#   build.sh controllers  kube-controller-manager, where tests need it beside these
#   build.sh helm         helm, for the tests of charts/ (3 minutes)
#   build.sh cluster      the rest of a control plane and of a node: what `make test-cluster` needs besides
#   build.sh where        prints the folder
#
# The folder is $KUBEBUILDER_ASSETS if that is set, else ~/.cache/multinic-testbed/kubernetes. What is there is kept.
set -euo pipefail
cd "$(dirname "$0")"

FOLDER=${KUBEBUILDER_ASSETS:-${XDG_CACHE_HOME:-$HOME/.cache}/multinic-testbed/kubernetes}
CONTAINERD=github.com/containerd/containerd/v2/cmd
CONTAINERD_VERSION=v2.4.2
RUNC_VERSION=v1.5.2
HELM_VERSION=v3.22.0

# Builds into a folder of its own and moves what is whole, so that an interrupted build leaves nothing half-written.
install() { # program, package, further arguments of `go install`
  local program=$1 package=$2
  shift 2
  [[ -x $FOLDER/$program ]] && return
  printf 'kubernetes [%5ss] building %s\n' "$SECONDS" "$program" >&2
  local scratch
  scratch=$(mktemp -d "$FOLDER/.build-XXXXXX")
  GOBIN=$scratch go install -trimpath "$@" "$package"
  mv "$scratch"/* "$FOLDER/$program"
  rmdir "$scratch"
}

# A server that was not told its version calls itself v0.0.0, and clients believe it.
version_flags() {
  local version
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  local major_minor=${version#v}
  local package=k8s.io/component-base/version
  printf -- '-s -w -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
    $package "$version" $package "${major_minor%%.*}" $package "$(cut -d. -f2 <<<"$version")" $package
}

kubernetes() { # program
  install "$1" "k8s.io/kubernetes/cmd/$1" -ldflags "$(version_flags)"
}

api() {
  install etcd go.etcd.io/etcd/server/v3 -ldflags '-s -w'
  kubernetes kube-apiserver
}

# Its etcd is the current one.
oldest() {
  cd oldest
  FOLDER+=/oldest
  mkdir -p "$FOLDER"
  kubernetes kube-apiserver
}

controllers() {
  kubernetes kube-controller-manager
}

# A helm that was not told them believes itself older than it is, and every cluster to be 1.20, which charts may refuse.
helm() {
  local kubernetes minor flags="-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION"
  kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=$(cut -d. -f2 <<<"$kubernetes")
  for package in chartutil lint/rules; do
    flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$minor"
  done
  install helm "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" -ldflags "$flags"
}

cluster() {
  api
  controllers
  for program in kube-scheduler kubelet kube-proxy kubectl; do kubernetes "$program"; done
  for program in containerd containerd-shim-runc-v2 ctr; do
    install "$program" "$CONTAINERD/$program@$CONTAINERD_VERSION" \
      -tags no_btrfs,no_zfs,no_aufs,no_devmapper -ldflags '-s -w'
  done
  (cd dns && install coredns .)
  CGO_ENABLED=1 install runc "github.com/opencontainers/runc@$RUNC_VERSION" -tags seccomp -ldflags '-s -w'
}

export CGO_ENABLED=0
mkdir -p "$FOLDER"
case ${1:-} in
  api | oldest | controllers | helm | cluster) "$1" ;;
  where) printf '%s\n' "$FOLDER" ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' build.sh
    exit 2
    ;;
esac
