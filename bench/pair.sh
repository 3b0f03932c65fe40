#!/usr/bin/env bash
# Two builds of Flux in turn: bench/pair.sh OLD_BINARY NEW_BINARY [row…]. Prints, for each row,
# the ratio new/old of the throughput and of the server's processor time for each event, each with
# its lowest and highest pair. PAIRS (5), SECONDS_EACH (2) of each run, DATA_ROOT (target/).
# PRIORITY=-15, as root, puts the runs ahead of other work on a busy machine.
# The load comes from this checkout, so both builds get the same.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
old=$(realpath "$1") new=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."
cargo build --release --quiet --locked -p flux-bench -p flux-loadgen
run=(target/release/flux-bench pair --pairs "${PAIRS:-5}" --seconds "${SECONDS_EACH:-2}"
  --data-root "${DATA_ROOT:-target}" "$old" "$new" "$@")
[ -n "${PRIORITY:-}" ] || exec "${run[@]}"
# The scheduler groups processes by terminal session, so that `nice` counts within one only
# (sched(7), "The autogroup feature"). A group of its own can be given a priority.
# shellcheck disable=SC2016 # expanded by the inner shell
exec setsid --wait bash -c 'echo "$0" >/proc/self/autogroup && exec "$@"' "$PRIORITY" "${run[@]}"
