# What deploy.sh and cleanup.sh share: how they speak, what they run, and how they reach nodes. It is sourced.
# shellcheck shell=bash

DRY_RUN=false
STEP=0

# Says what comes next.
step() { # STEPS-IN-ALL TEXT
  STEP=$((STEP + 1))
  printf '\n[%d/%d %ss] %s\n' "$STEP" "$1" "$SECONDS" "$2"
}

say() { printf '    %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Runs a command that changes something, or says it.
run() {
  if $DRY_RUN; then
    say "would run: $(printf '%q ' "$@")"
  else
    "$@"
  fi
}

need() { # PROGRAMS…
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "$program is not installed"
  done
}

flag() { # NAME: a variable that is true or false
  case ${!1} in
    true | false) ;;
    *) fail "$1 is ${!1}; it is true or false" ;;
  esac
}

# The nodes to reach by ssh: NODES, else every node's address in the cluster.
node_addresses() {
  if [[ -n ${NODES:-} ]]; then
    tr -s ', ' '\n' <<<"$NODES" | sed '/^$/d'
  else
    kubectl get nodes --output \
      'jsonpath={range .items[*]}{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' | awk 'NF { print $1 }'
  fi
}

# A password comes from the environment or a file and goes to ssh by SSH_ASKPASS: never an argument, which everybody on the
# machine could read.
prepare_ssh() {
  SSH=(ssh -p "$SSH_PORT" -o ConnectTimeout=10 -o ServerAliveInterval=15)
  [[ -z $SSH_KEY_PATH ]] || SSH+=(-i "$SSH_KEY_PATH" -o IdentitiesOnly=yes)
  if [[ -n ${SSH_PASSWORD_FILE:-} ]]; then
    [[ -z ${SSH_PASSWORD:-} ]] || fail "SSH_PASSWORD and SSH_PASSWORD_FILE are both set: set one"
    SSH_PASSWORD=$(<"$SSH_PASSWORD_FILE")
  fi
  if [[ -n ${SSH_PASSWORD:-} ]]; then
    export SSH_PASSWORD SSH_ASKPASS_REQUIRE=force
    SSH_ASKPASS=$(mktemp)
    trap 'rm -f "$SSH_ASKPASS"' EXIT
    # shellcheck disable=SC2016 # The variable is for the program that is written here.
    printf '#!/bin/sh\nprintf "%%s\\n" "$SSH_PASSWORD"\n' >"$SSH_ASKPASS"
    chmod 700 "$SSH_ASKPASS"
    export SSH_ASKPASS
    SSH+=(-o NumberOfPasswordPrompts=1)
  else
    SSH+=(-o BatchMode=yes)
  fi
  # Host keys are those that ssh knows, and it asks nobody; SSH_OPTIONS may say otherwise, since the first option counts.
  # shellcheck disable=SC2206 # Several words are meant.
  SSH+=(${SSH_OPTIONS:-} -o StrictHostKeyChecking=yes)
}

# Runs a command on a node as root.
on_node() { # ADDRESS COMMAND
  local command=$2
  [[ $SSH_USER == root ]] || command="sudo -n $command"
  "${SSH[@]}" "$SSH_USER@$1" "$command"
}
