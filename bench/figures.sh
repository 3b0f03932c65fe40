#!/usr/bin/env bash
# Every figure of bench/RESULTS.md: servers on core 0, load on core 1, servers taken in turn, medians of ROUNDS runs.
#
#   bench/figures.sh [publish|batch|get|watch|idle|replay ...]      default: all of them
#
# ROUNDS (3), SECONDS_EACH (4), CONNECTIONS ("1 16 64 256"), SERVER_CORE (0), LOAD_CORE (1), DATA (a fresh directory below
# the repository, since a temporary directory is often memory and would make flushes free).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-4} connections=${CONNECTIONS:-1 16 64 256}
server_core=${SERVER_CORE:-0} load_core=${LOAD_CORE:-1}
cargo build --release --quiet --workspace
bin=$PWD/target/release
data=${DATA:-$(mktemp -d "$PWD/target/figures.XXXXXX")}
server=
trap 'stop; rm -rf "$data"' EXIT

stop() { if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; server=; fi; }

# start sync|async|noop: a server on port 3900, its process in $server
start() {
  case $1 in
    noop) "$bin/flux-bench" noop --port 3900 --cpu "$server_core" 2>/dev/null & ;;
    *) FLUX_SHARDS=1 FLUX_DURABILITY=$1 taskset -c "$server_core" "$bin/flux" --port 3900 --data-dir "$data/$1" \
         2>>"$data/log" & ;;
  esac
  server=$!
  for _ in $(seq 200); do
    curl -sf -o /dev/null "http://127.0.0.1:3900/ready" && return
    sleep 0.05
  done
  echo "no answer from $1" >&2
  exit 1
}

# load <subcommand> [options]: one JSON object on stdout
load() {
  local what=$1
  shift
  taskset -c "$load_core" "$bin/flux-loadgen" "$what" --url http://127.0.0.1:3900 --cpu "$load_core" \
    --duration "$seconds" --warmup 1 --json "$@" 2>/dev/null
}

# field <name>: a number out of one JSON object
field() { sed -n 's/.*"'"$1"'": *\([0-9.]*\).*/\1/p'; }
median() { sort -g | awk '{ v[NR] = $1 } END { printf "%.0f", v[int((NR + 1) / 2)] }'; }

# row <label> <servers> <rate field> -- <loadgen arguments>
row() {
  local label=$1 servers=$2 rate=$3
  shift 4
  local kind round
  for kind in $servers; do : >"$data/$kind.rate"; : >"$data/$kind.p50"; : >"$data/$kind.p99"; : >"$data/$kind.busy"; done
  for round in $(seq "$rounds"); do
    for kind in $servers; do
      start "$kind"
      out=$(load "$@")
      stop
      for pair in rate:"$rate" p50:p50_us p99:p99_us busy:generator_busiest_thread; do
        field "${pair#*:}" <<<"$out" >>"$data/$kind.${pair%%:*}"
      done
    done
  done
  for kind in $servers; do
    busy=$(sort -g "$data/$kind.busy" | awk '{ v[NR] = $1 } END { printf "%.2f", v[int((NR + 1) / 2)] }')
    printf '| %s | %s | %s | %s | %s | %s |\n' "$label" "$kind" "$(median <"$data/$kind.rate")" \
      "$(median <"$data/$kind.p50")" "$(median <"$data/$kind.p99")" "$busy"
  done
}

header() { printf '\n| %s | server | a second | p50 µs | p99 µs | load busy |\n| --- | --- | --- | --- | --- | --- |\n' "$1"; }

publish() {
  header "publish, connections"
  for count in $connections; do
    row "$count" "sync async noop" requests_per_second -- publish --connections "$count" --properties 3
  done
}

batch() {
  header "batches of 1,000 events, connections"
  row 4 "sync async" events_per_second -- batch --size 1000 --connections 4 --properties 3
}

get() {
  header "read one entity, connections"
  row 64 "sync noop" requests_per_second -- get --connections 64 --entities 1000
}

watch() {
  printf '\n1,000 events a second, each watcher wants all of them.\n'
  for count in 10 100 1000; do
    start sync
    printf '\n%s watchers: ' "$count"
    load watch --watchers "$count" --rate 1000 --connections 4
    stop
  done
}

idle() {
  start sync
  printf '\n10,000 idle HTTP connections: '
  load idle --count 10000 --pid "$server"
  printf '5,000 idle WebSocket connections: '
  load idle --count 5000 --websocket --pid "$server"
  stop
}

replay() {
  rm -rf "$data/sync"
  start sync
  SECONDS_EACH=10
  seconds=10 load batch --size 1000 --connections 4 --properties 3 --entities 100000 >"$data/filled"
  events=$(curl -s "http://127.0.0.1:3900/metrics" 2>/dev/null | sed -n 's/^flux_events_total //p' || true)
  stop
  bytes=$(du -sb "$data/sync" | cut -f1)
  printf '\nlog on disk: %s bytes; %s\n' "$bytes" "$(cat "$data/filled")"
  before=$(date +%s%N)
  start sync
  printf 'start to ready: %s ms\n' "$((($(date +%s%N) - before) / 1000000))"
  stop
}

for what in "${@:-publish batch get watch idle replay}"; do
  for one in $what; do "$one"; done
done
