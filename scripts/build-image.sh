#!/usr/bin/env bash
# Builds both images as archives in target/images, without a container engine: IMAGE_NAME=multinic IMAGE_TAG=0.1.0
set -euo pipefail
cd "$(dirname "$0")/.."
name=${IMAGE_NAME:-multinic}
name=${name%-agent}
tag=${IMAGE_TAG:-$(sed -n 's/^appVersion: *//p' charts/multinic/Chart.yaml)}
exec make images "IMG=$name:$tag" "AGENT_IMG=$name-agent:$tag"
