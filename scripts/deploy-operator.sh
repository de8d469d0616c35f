#!/usr/bin/env bash
# scripts/deploy.sh with the operator.
set -euo pipefail
OPERATOR=true exec "$(dirname "$0")/deploy.sh" "$@"
