#!/usr/bin/env bash
# scripts/cleanup.sh, which sees for itself whether there is an operator.
set -euo pipefail
exec "$(dirname "$0")/cleanup.sh" "$@"
