#!/usr/bin/env bash
# Builds the S3-compatible server that backups are tested on, versitygw. Needs Go 1.26 or newer; once, about two minutes.
#
#   build.sh          builds it, unless it is there
#   build.sh where    prints the folder
#
# The folder is $MULTINIC_S3 if that is set, else ~/.cache/multinic-testbed/s3.
set -euo pipefail

FOLDER=${MULTINIC_S3:-${XDG_CACHE_HOME:-$HOME/.cache}/multinic-testbed/s3}
VERSION=v1.8.0

# Builds in a folder of its own and moves what is whole, so that an interrupted build leaves nothing half-written.
build() {
  [[ -x $FOLDER/versitygw-$VERSION ]] && return
  mkdir -p "$FOLDER"
  local scratch
  scratch=$(mktemp -d "$FOLDER/.build-XXXXXX")
  CGO_ENABLED=0 GOBIN=$scratch go install -trimpath -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@$VERSION"
  mv "$scratch/versitygw" "$FOLDER/versitygw-$VERSION"
  rmdir "$scratch"
  ln -sfn "versitygw-$VERSION" "$FOLDER/versitygw"
}

case ${1:-} in
  '') build ;;
  where) printf '%s\n' "$FOLDER" ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
