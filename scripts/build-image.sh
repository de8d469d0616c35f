#!/usr/bin/env bash
# Builds both images as archives in target/images, without a container engine: IMAGE_NAME=multinic IMAGE_TAG=0.1.0
set -euo pipefail
if (($#)); then
  sed -n '2s/^# //p' "$0"
  [[ $1 == --help ]] || { echo "build-image.sh takes no arguments" >&2; exit 2; }
  exit 0
fi
cd "$(dirname "$0")/.."
name=${IMAGE_NAME:-multinic}
name=${name%-agent}
tag=${IMAGE_TAG:-$(sed -n 's/^appVersion: *//p' charts/multinic/Chart.yaml)}
exec make images "IMG=$name:$tag" "AGENT_IMG=$name-agent:$tag"
