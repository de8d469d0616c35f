#!/usr/bin/env bash
# Builds every fuzz target and feeds each damaged input for some seconds: fuzz/run.sh [SECONDS [TARGET...]]
# The inputs are the same each time, as far as the seconds reach; FUZZ_SEED=0 draws others.
#
# These are the flags of `cargo fuzz --sanitizer none`, which a stable compiler takes too. What safe Rust does wrong is a panic, and
# that needs no sanitizer.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
shift || true

host=$(rustc -vV | sed -n 's/^host: //p')
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares)
# With --target, what only builds (build scripts, macros) goes without the counters.
RUSTFLAGS="${coverage[*]}" cargo build --quiet --release --locked --target "$host"
built=target/$host/release

targets=("$@")
if ((${#targets[@]} == 0)); then
  for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
corpus=target/corpus
SEEDS=$corpus "$built/seeds" -runs=0 2>/dev/null

one() {
  local target=$1 log="$corpus/$1.log"
  mkdir -p "$corpus/$target"
  if "$built/$target" -seed="${FUZZ_SEED:-1}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="target/failed-$target-" "$corpus/$target" >"$log" 2>&1; then
    printf '%-20s %9s runs, %s inputs of interest\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
      "$(find "$corpus/$target" -type f | wc -l)"
  else
    printf '%s FAILED:\n' "$target"
    tail -n 40 "$log"
    return 1
  fi
}
export -f one
export built corpus seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
