#!/usr/bin/env bash
# Every figure of bench/RESULTS.md. Servers on core 0 with one shard, load on core 1; see bench/README.md for what the
# columns mean.
#
#   bench/figures.sh [compare] [watch] [idle] [stall] [replay]      default: all of them
#
# ROUNDS (3) and SECONDS_EACH (4) of each comparison. Data lies below target/, so that flushes reach the disk of the
# checkout and not a file system in memory.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-4}
cargo build --release --quiet --workspace
bin=$PWD/target/release
data=$(mktemp -d "$PWD/target/figures.XXXXXX")
port=$((10000 + RANDOM % 20000)) # below the ports that the kernel gives to clients
server=
trap 'stop; rm -rf "$data"' EXIT

stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
  fi
}

# start <directory>: Flux in sync durability; $server is its process
start() {
  port=$((port + 1))
  FLUX_SHARDS=1 taskset -c 0 "$bin/flux" --port "$port" --data-dir "$data/$1" 2>>"$data/log" &
  server=$!
  until curl -sf -o /dev/null "http://127.0.0.1:$port/ready"; do
    kill -0 "$server" 2>/dev/null || { tail -1 "$data/log" >&2; exit 1; }
    sleep 0.02
  done
}

load() { taskset -c 1 "$bin/flux-loadgen" "$@" --url "http://127.0.0.1:$port" 2>/dev/null; }
versus() { "$bin/flux-bench" compare --rounds "$rounds" --data-root "$data" "$@" 2>/dev/null; }

compare() {
  for connections in 1 16 64 256; do
    printf '\n'
    versus -- publish --connections "$connections" --properties 3 --duration "$seconds"
  done
  local flux='target/release/flux --port {port} --data-dir {data} --shards 1'
  printf '\n'
  versus --server "flux-sync=$flux" --server "flux-async=$flux --durability async" \
    -- batch --size 1000 --connections 4 --properties 3 --duration "$seconds"
  printf '\n'
  versus -- publish --connections 64 --pipeline 16 --properties 3 --duration "$seconds"
  printf '\n'
  start get
  load get --connections 64 --entities 1000 --duration "$seconds" --cpu 1
  stop
}

watch() {
  for watchers in 10 100 1000; do
    printf '\n%s watchers of everything, 1,000 events a second\n' "$watchers"
    start "watch$watchers"
    load watch --watchers "$watchers" --rate 1000 --filter '*' --duration "$seconds" --cpu 1
    stop
  done
}

idle() {
  start idle
  printf '\nidle HTTP connections\n'
  load idle --count 10000 --greeting request --duration 3 --pid "$server"
  stop
  start idle
  printf '\nidle WebSocket connections\n'
  load idle --count 10000 --greeting websocket --duration 3 --pid "$server"
  stop
}

# The longest wait of a request that costs nothing, once a millisecond, while 64 connections publish.
stall() {
  start stall
  load publish --connections 64 --properties 3 --duration "$((seconds + 4))" --warmup 0 --cpu 1 >"$data/load" &
  local publishing=$!
  sleep 1
  printf '\nreads of one entity, 1,000 a second, beside 64 publishing connections\n'
  load get --connections 1 --rate 1000 --entities 1 --duration "$seconds" --warmup 1 || true
  wait "$publishing"
  stop
}

replay() {
  start replay
  load batch --size 1000 --connections 4 --properties 3 --entities 100000 --duration 10 --warmup 0 --cpu 1 --json >"$data/load"
  stop
  printf '\nfilled for 10 s: %s\n' "$(cat "$data/load")"
  local before
  before=$(date +%s%N)
  start replay
  printf 'from start to ready: %s ms\n' "$((($(date +%s%N) - before) / 1000000))"
  stop
}

for what in ${*:-compare watch idle stall replay}; do "$what"; done
