#!/usr/bin/env bash
# Every figure of bench/RESULTS.md. Servers on core 0 with one shard, load on core 1; see bench/README.md for what the
# columns mean.
#
#   bench/figures.sh [compare] [watch] [idle] [stall] [storage] [start] [checkpoint] [history] [replay]
#                     [connectors] [list] [few] [sizes] [creation] [shards] [overload] [steady] [targets]
#
# Without names, all of them; `replay` is a part of `start`. ROUNDS (3) and SECONDS_EACH (4) of each comparison; MILLIONS
# (10) of entities in the larger of the sets that `start`, `checkpoint`, `sizes` and `creation` use, and of events in that
# of `history`; MINUTES (10) and RATE (46000) of `steady`. `targets` needs redis-server and nats-server.
# Data lies below target/, so that flushes reach the disk of the checkout and not a file system in memory; of ten
# millions it takes 5 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-4} millions=${MILLIONS:-10}
cargo build --release --quiet --workspace
bin=$PWD/target/release
data=$(mktemp -d "$PWD/target/figures.XXXXXX")
port=$((10000 + RANDOM % 20000)) # below the ports that the kernel gives to clients
server= source=
trap 'stop; [ -z "$source" ] || kill "$source"; rm -rf "$data"' EXIT

stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
  fi
}

# serve <directory> [option…]: Flux in sync durability; $server is its process. SHARDS (1), on as many cores or on CPUS.
serve() {
  port=$((port + 1))
  local shards=${SHARDS:-1} directory=$1
  shift
  taskset -c "${CPUS:-0-$((shards - 1))}" "$bin/flux" --port "$port" --data-dir "$data/$directory" --shards "$shards" "$@" \
    2>>"$data/log" &
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
  serve get
  load get --connections 64 --entities 1000 --duration "$seconds" --cpu 1
  stop
}

watch() {
  for watchers in 10 100 1000; do
    printf '\n%s watchers of everything, 1,000 events a second\n' "$watchers"
    serve "watch$watchers"
    load watch --watchers "$watchers" --rate 1000 --filter '*' --duration "$seconds" --cpu 1
    stop
  done
}

idle() {
  serve idle
  printf '\nidle HTTP connections\n'
  load idle --count 10000 --greeting request --duration 3 --pid "$server"
  stop
  serve idle
  printf '\nidle WebSocket connections\n'
  load idle --count 10000 --greeting websocket --duration 3 --pid "$server"
  stop
}

# The longest wait of a request that costs nothing, once a millisecond, while 64 connections publish.
stall() {
  serve stall
  load publish --connections 64 --properties 3 --duration "$((seconds + 4))" --warmup 0 --cpu 1 >"$data/load" &
  local publishing=$!
  sleep 1
  printf '\nreads of one entity, 1,000 a second, beside 64 publishing connections\n'
  load get --connections 1 --rate 1000 --entities 1 --duration "$seconds" --warmup 1 || true
  wait "$publishing"
  stop
}

# filled <directory> <entities> <events>: makes a data directory of so many, unless an earlier figure did.
filled() {
  [ -d "$data/$1" ] && return
  serve "$1"
  load fill --entities "$2" --events "$3" --properties 3 --cpu 1 --json
  stop
}

# The log by itself, in one process.
storage() {
  printf '\nthe log by itself\n'
  "$bin/flux-bench" storage --data-root "$data"
}

# From exec to the first correct answer, and memory: over a checkpoint, then from the log alone.
start() {
  local count
  for count in 1000000 "${millions}000000"; do
    printf '\nstart with %s entities\n' "$count"
    filled "$count" "$count" "$count"
    "$bin/flux-bench" start --data "$data/$count" --entities "$count"
  done
  replay
}

replay() {
  printf '\nstart from the log alone: 5,000,000 events of 100,000 entities\n'
  filled tail 100000 5000000
  rm -r "$data/tail/checkpoints"
  "$bin/flux-bench" start --data "$data/tail" --entities 100000 --cycles 50 --warm --rounds 1
  rm -r "$data/tail"
}

# What a checkpoint writes, and what those notice who read and publish meanwhile.
checkpoint() {
  local count
  printf '\na checkpoint of a million new entities\n'
  "$bin/flux-bench" stall --data "$data/stall" --entities 1000000 --fill --checkpoint-seconds 10 --duration 15
  rm -r "$data/stall"
  for count in 1000000 "${millions}000000"; do
    printf '\ncheckpoints of what changes among %s entities\n' "$count"
    filled "$count" "$count" "$count"
    "$bin/flux-bench" changed --data "$data/$count" --entities "$count"
    "$bin/flux-bench" stall --data "$data/$count" --entities "$count" --checkpoint-seconds 2 --duration 10
  done
}

# The last hundred events of one entity, spread over all of the log.
history() {
  printf '\nhistory: %s,000,000 events of %s entities in turn\n' "$millions" "${millions}0000"
  filled history "${millions}0000" "${millions}000000"
  "$bin/flux-bench" history --data "$data/history" --entities "${millions}0000"
  rm -r "$data/history"
}

# What those notice who publish while a thousand sources are polled, a hundred a second. The source shares the load's core.
connectors() {
  local count round source_port=$((port + 20000)) number definition
  "$bin/flux-bench" noop --engine epoll --cpu 1 --port "$source_port" >"$data/log" &
  source=$!
  for round in $(seq "$rounds"); do
    for count in 0 1000; do
      printf '\n5,000 events a second from 16 connections, beside %s connectors (round %s)\n' "$count" "$round"
      serve "connectors$round-$count"
      for number in $(seq "$count"); do
        definition="{\"name\":\"source-$number\",\"url\":\"http://127.0.0.1:$source_port/$number\","
        printf 'next\nurl = "http://127.0.0.1:%s/api/connectors"\noutput = "/dev/null"\ndata = "%s"\n' "$port" \
          "$(sed 's/"/\\"/g' <<<"$definition\"poll_interval_seconds\":10,\"entity_id\":\"source/$number\"}")"
      done >"$data/curl"
      if [ "$count" -gt 0 ]; then
        curl -s --config "$data/curl"
        sleep 2
      fi
      load publish --connections 16 --properties 3 --rate 5000 --duration "$seconds" --cpu 1
      curl -s "http://127.0.0.1:$port/api/connectors" | grep -o '"status":"running"' | wc -l || true
      stop
    done
  done
  kill "$source"
  source=
}

# Whole listings.
list() {
  serve list
  printf '\nlist of 10,000 entities, 4 connections\n'
  load list --connections 4 --namespaces 1 --entities 10000 --limit 0 --properties 3 --duration "$seconds" --cpu 1
  stop
}

# Few connections.
few() {
  local connections
  for connections in 1 2 4 8 16; do
    printf '\n'
    versus -- publish --connections "$connections" --properties 3 --duration "$seconds"
  done
}

# Waits until the server has nothing to do: no checkpoint is being written.
quiet() {
  local before after
  before=-1000
  while after=$(awk '{print $14 + $15}' "/proc/$server/stat"); [ $((after - before)) -gt 5 ]; do
    before=$after
    sleep 2
  done
}

# What an event and a read cost among few entities and among many: reads alone, then after events, which cause checkpoints.
sizes() {
  local count round
  for count in 10000 "${MILLIONS:-10}000000"; do
    serve "sizes$count" --durability async
    load fill --entities "$count" --properties 3 --cpu 1 --json
    grep RssAnon "/proc/$server/status"
    quiet
    # Once over all of them, so that what the checkpoint wrote is in memory.
    load get --connections 64 --entities "$count" --no-setup --duration 10 --cpu 1 >/dev/null
    for round in $(seq "$rounds"); do
      printf '\n%s entities, nothing is written (round %s)\n' "$count" "$round"
      load get --connections 64 --entities "$count" --no-setup --duration "$seconds" --cpu 1
    done
    for round in $(seq "$rounds"); do
      printf '\n%s entities (round %s)\n' "$count" "$round"
      load publish --connections 64 --entities "$count" --properties 3 --duration "$seconds" --cpu 1
      load get --connections 64 --entities "$count" --no-setup --duration "$seconds" --cpu 1
    done
    stop
    rm -r "$data/sizes$count"
  done
}

# Processor time for each event, with load and server on both cores: one shard, two with a namespace each, two with one
# namespace that both cores' connections want.
shards() {
  local durability connections count namespaces ticks machine rate
  for durability in async sync; do
    for connections in 64 256; do
      for count in 1 2; do
        for namespaces in 1 2; do
          CPUS=0-1 SHARDS=$count serve "shards$durability$connections-$count-$namespaces" --durability "$durability"
          ticks=$(awk '{print $14 + $15}' "/proc/$server/stat")
          machine=$(busy)
          rate=$("$bin/flux-loadgen" publish --namespaces "$namespaces" --connections "$connections" --threads 2 --properties 3 \
            --warmup 0 --duration "$seconds" --url "http://127.0.0.1:$port" 2>/dev/null | awk '/requests_per_second/ {print $2}')
          awk -v before="$ticks" -v machine="$(($(busy) - machine))" -v rate="$rate" -v seconds="$seconds" \
            -v what="$durability, $connections connections, $count shards, $namespaces namespaces" \
            '{each = 10000 / rate / seconds
              printf "%s: %d/s, %.1f us of processor each, with the load and the kernel %.1f us\n", what, rate,
                ($14 + $15 - before) * each, machine * each}' "/proc/$server/stat"
          stop
        done
      done
    done
  done
}

# Ticks that the processors were busy: all but idle and waiting.
busy() { awk '/^cpu / {print $2 + $3 + $4 + $7 + $8}' /proc/stat; }

# What a start replays after `kill -9`; the server's options follow the directory.
killed() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
  serve "$@"
  tail -1 "$data/log"
  stop
  rm -r "${data:?}/$1"
}

# New entities whose ids come in no order; then millions of them written without a pause, checkpoints beside it.
creation() {
  local work never="--checkpoint-bytes 1000000000000 --checkpoint-seconds 86400"
  for work in "batch --size 1000 --connections 16" "publish --connections 64"; do
    printf '\nnew entities, any of %s million: %s\n' "$millions" "$work"
    # shellcheck disable=SC2086 # words are options
    serve creation --durability async $never
    # shellcheck disable=SC2086
    load $work --entities "${millions}000000" --properties 3 --warmup 0 --duration "$((2 * seconds))" --cpu 1
    killed creation --durability async
  done
  printf '\n%s million entities created, then batches for 20 s\n' "$millions"
  serve creation --durability async
  load fill --entities "${millions}000000" --properties 3 --cpu 1 --json
  load batch --size 1000 --connections 4 --entities "${millions}000000" --properties 3 --warmup 0 --duration 20 --cpu 1
  killed creation --durability async
}

# Twice what a closed loop of as many connections gets.
overload() {
  local best
  serve overload
  best=$(load publish --connections 64 --properties 3 --duration "$seconds" --cpu 1 | awk '/requests_per_second/ {print $2}')
  grep RssAnon "/proc/$server/status"
  printf '\nbest %s/s; offered twice of it\n' "$best"
  load publish --connections 64 --properties 3 --duration "$seconds" --rate "$((best * 2))" --cpu 1 || true
  grep RssAnon "/proc/$server/status"
  stop
}

# An even load for long: its latencies, and every half minute the processor time, memory and descriptors of the server.
steady() {
  local publishing
  serve steady
  load publish --connections 64 --properties 3 --rate "${RATE:-46000}" --duration "$((${MINUTES:-10} * 60))" --cpu 1 &
  publishing=$!
  while sleep 30 && kill -0 "$publishing" 2>/dev/null; do
    printf '%s ticks, %s descriptors, %s\n' "$(awk '{print $14 + $15}' "/proc/$server/stat")" \
      "$(find "/proc/$server/fd" | wc -l)" "$(grep RssAnon "/proc/$server/status")"
  done
  wait "$publishing"
  stop
}

# Beside Redis and NATS, one by one, pipelined and in batches; reads; many watchers.
targets() {
  local connections batch watchers flux='target/release/flux --port {port} --data-dir {data} --shards 1'
  for connections in 16 64 256; do
    printf '\n'
    versus --peers -- publish --connections "$connections" --properties 3 --duration "$seconds"
  done
  printf '\n'
  versus --peers -- publish --connections 64 --pipeline 16 --properties 3 --duration "$seconds"
  for batch in "1000 --connections 4" "100 --connections 32"; do
    printf '\n'
    # shellcheck disable=SC2086 # a size and an option
    versus --server "flux-sync=$flux" --server "flux-async=$flux --durability async" \
      -- batch --size $batch --properties 3 --duration "$seconds"
  done
  printf '\n'
  serve targets-get
  load get --connections 64 --entities 1000 --duration "$seconds" --cpu 1
  stop
  printf '\n100 watchers of everything, 5,000 events a second\n'
  serve targets-all
  load watch --watchers 100 --filter '*' --rate 5000 --properties 3 --duration "$seconds" --cpu 1
  stop
  for watchers in 1000 1; do
    printf '\n%s watchers of one of 100,000 entities each, 50,000 events a second\n' "$watchers"
    serve "targets-$watchers"
    load watch --watchers "$watchers" --filter per-entity --entities 100000 --connections 64 --rate 50000 --properties 3 \
      --duration "$seconds" --cpu 1
    stop
  done
}

every="compare watch idle stall storage start checkpoint history connectors list few sizes creation shards overload steady targets"
for what in ${*:-$every}; do "$what"; done
