#!/usr/bin/env bash
# Two builds of Flux in turn: bench/pair.sh OLD_BINARY NEW_BINARY [row…]. Prints, for each row, the
# ratio new/old of the throughput and of the server's processor time for each event, each with its
# lowest and highest pair. PAIRS (5), SECONDS_EACH (2) of each run, DATA_ROOT (target/).
# The load comes from this checkout, so both builds get the same.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
old=$(realpath "$1") new=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."
cargo build --release --quiet --locked -p flux-bench -p flux-loadgen
target/release/flux-bench pair --pairs "${PAIRS:-5}" --seconds "${SECONDS_EACH:-2}" \
  --data-root "${DATA_ROOT:-target}" "$old" "$new" "$@"
