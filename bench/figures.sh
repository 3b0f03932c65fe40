#!/usr/bin/env bash
# The figures of bench/RESULTS.md. Servers with one shard on core 0, load on core 1.
#
#   bench/figures.sh table [row…]   the table of throughput, in Markdown (needs redis-server)
#   bench/figures.sh [watch] [idle] [overload] [sizes] [steady] [start] [known] [checkpoint]
#     [history] [connectors] [streams] [tls]
#
# In `streams`, SNAPSHOT_ENTITIES (1000000) and IDLE (10000) streams.
# ROUNDS (3) runs of SECONDS_EACH (2); MILLIONS (10) of entities in the larger sets of `sizes`,
# `start` and `checkpoint`, and of events in that of `history`; MINUTES (10) and RATE (66000) of
# `steady`. Data lies in target/, so that flushes reach the disk of the checkout; ten million
# entities take 5 GB.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-2} millions=${MILLIONS:-10}
build=$(git describe --always --dirty)
cargo build --release --quiet --locked --workspace
bin=$PWD/target/release
data=$(mktemp -d "$PWD/target/figures.XXXXXX")
port=$((10000 + RANDOM % 20000)) # below the ports that the kernel gives to clients
server= source= scheme=http
trap 'stop; [ -z "$source" ] || kill "$source"; rm -rf "$data"' EXIT

stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
  fi
}

# serve <directory> [option…]: Flux in sync durability; $server is its process.
serve() {
  port=$((port + 1))
  local directory=$1
  shift
  taskset -c 0 "$bin/flux" --port "$port" --data-dir "$data/$directory" --shards 1 "$@" 2>>"$data/log" &
  server=$!
  until curl -skf -o /dev/null "$scheme://127.0.0.1:$port/ready"; do
    kill -0 "$server" 2>/dev/null || { tail -1 "$data/log" >&2; exit 1; }
    sleep 0.02
  done
}

load() { taskset -c 1 "$bin/flux-loadgen" "$@" --url "$scheme://127.0.0.1:$port" 2>/dev/null; }
memory() { grep RssAnon "/proc/$server/status"; }

# Every load against Flux, the no-op server and Redis in turn.
table() {
  printf 'Build %s, %s; %s, %s cores, Linux %s, %s; %s runs of %s s.\n\n' "$build" \
    "$(date -u '+%Y-%m-%d %H:%M')" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" \
    "$(uname -r)" "$(df --output=fstype "$data" | tail -1)" "$rounds" "$seconds"
  "$bin/flux-bench" table --rounds "$rounds" --seconds "$seconds" --data-root "$data" "$@"
}

watch() {
  local watchers
  printf '\n100 watchers of everything, 5,000 events a second\n'
  serve watch
  load watch --watchers 100 --filter '*' --rate 5000 --properties 3 --duration "$seconds" --cpu 1
  stop
  for watchers in 1000 1; do
    printf '\n%s watchers of one of 100,000 entities each, 50,000 events a second\n' "$watchers"
    serve "watch$watchers"
    load watch --watchers "$watchers" --filter per-entity --entities 100000 --connections 64 --rate 50000 \
      --properties 3 --duration "$seconds" --cpu 1
    stop
  done
}

idle() {
  local greeting
  for greeting in request websocket; do
    serve "idle-$greeting"
    printf '\n10,000 idle connections after a %s\n' "$greeting"
    load idle --count 10000 --greeting "$greeting" --duration 3 --pid "$server"
    stop
  done
}

# Twice what a closed loop of as many connections gets.
overload() {
  local best
  serve overload
  best=$(load publish --connections 64 --properties 3 --duration "$seconds" --cpu 1 | awk '/requests_per_second/ {print $2}')
  memory
  printf '\nbest %s/s; offered twice of it\n' "$best"
  load publish --connections 64 --properties 3 --duration "$seconds" --rate "$((best * 2))" --cpu 1 || true
  memory
  stop
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

# What an event and a read cost among few entities and among many: reads alone, then after events,
# which cause checkpoints.
sizes() {
  local count round
  for count in 10000 "${millions}000000"; do
    serve "sizes$count" --durability async
    load fill --entities "$count" --properties 3 --cpu 1 --json
    memory
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

# An even load for long: its latencies, and every half minute the processor time, memory and
# descriptors of the server.
steady() {
  local publishing
  serve steady
  load publish --connections 64 --properties 3 --rate "${RATE:-66000}" --duration "$((${MINUTES:-10} * 60))" --cpu 1 &
  publishing=$!
  while sleep 30 && kill -0 "$publishing" 2>/dev/null; do
    printf '%s ticks, %s descriptors, %s\n' "$(awk '{print $14 + $15}' "/proc/$server/stat")" \
      "$(find "/proc/$server/fd" | wc -l)" "$(memory)"
  done
  wait "$publishing"
  stop
}

# filled <directory> <entities> <events>: makes a data directory of so many, unless an earlier
# figure did.
filled() {
  [ -d "$data/$1" ] && return
  serve "$1"
  load fill --entities "$2" --events "$3" --properties 3 --cpu 1 --json
  stop
}

# From exec to the first correct answer, and memory: over a checkpoint, then from the log alone.
start() {
  local count
  for count in 1000000 "${millions}000000"; do
    printf '\nstart with %s entities\n' "$count"
    filled "$count" "$count" "$count"
    "$bin/flux-bench" start --data "$data/$count" --entities "$count"
  done
  printf '\nstart from the log alone: 5,000,000 events of 100,000 entities\n'
  filled tail 100000 5000000
  rm -r "$data/tail/checkpoints"
  "$bin/flux-bench" start --data "$data/tail" --entities 100000 --cycles 50 --warm --rounds 1
  rm -r "$data/tail"
}

# What a start takes longer because it finds a million event ids again: with them and without, in
# turn. Nothing is replayed, because the server was stopped. The ids are known for ten minutes after
# the filling.
known() {
  local round ids count
  serve known --durability async
  awk 'BEGIN {
    for (n = 0; n < 1000000; n++) {
      printf "%s{\"eventId\":\"client-%d\",\"stream\":\"load\",\"source\":\"figures\",\"payload\":", n % 1000 ? "," : "{\"events\":[", n
      printf "{\"entity_id\":\"known/%d\",\"properties\":{\"a\":%d,\"b\":%d,\"c\":%d}}}", n % 100000, n, n, n
      if (n % 1000 == 999) print "]}"
    }
  }' | while IFS= read -r body; do
    printf '%s' "$body" | curl -sf -o /dev/null --data-binary @- "http://127.0.0.1:$port/api/events/batch"
  done
  stop
  for round in $(seq "$rounds"); do
    for ids in 0 1000000; do
      serve known --durability async --dedup-events "$ids"
      printf 'with %s ids known: %s, %s\n' "$ids" "$(grep -o 'ready .*' "$data/log" | tail -1)" "$(memory)"
      stop
    done
  done
  rm -r "$data/known"
}

# What a checkpoint writes, and what those who read and publish notice of it.
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

# Live streams: fan-out by property and by entity, a snapshot and who publishes beside it, resuming,
# and the memory of what is idle.
streams() {
  local watchers mode rate round cursor greeting publishing
  for watchers in 1 10 100 1000; do
    # More than can be delivered, as far as publishing goes.
    rate=$((watchers < 10 ? 50000 : 500000 / watchers))
    for round in $(seq "$rounds"); do
      for mode in property entity; do
        printf '\n%s watchers of everything, mode %s, %s events a second offered (round %s)\n' "$watchers" "$mode" "$rate" "$round"
        serve "streams-$watchers-$mode-$round"
        load watch --watchers "$watchers" --mode "$mode" --filter '*' --rate "$rate" --properties 3 --duration "$seconds" \
          --drain 1 --server-pid "$server" --cpu 1 |
          grep -E '^(published_per_second|messages_per_second|server_us|delivery_p50|delivery_p99_|lost|generator)'
        stop
      done
    done
  done

  serve streams-snapshot
  load fill --entities "${SNAPSHOT_ENTITIES:-1000000}" --properties 3 --cpu 1 --json
  quiet
  beside() {
    load publish --connections 16 --rate 5000 --namespace beside --properties 3 --duration "$seconds" --cpu 1 |
      grep -E '^(requests_per_second|p50_us|p99_us|max_us|sent_late_p99)'
  }
  for round in $(seq "$rounds"); do
    printf '\n5,000 events a second (round %s)\n' "$round"
    beside
    printf '\n5,000 events a second beside snapshots\n'
    beside &
    publishing=$!
    while kill -0 "$publishing" 2>/dev/null; do
      load catch-up --pattern 'load*' --cpu 1 | grep -E '^(seconds|messages|bytes_per_second)'
    done
    wait "$publishing"
    printf '\na snapshot by itself\n'
    load catch-up --pattern 'load*' --cpu 1 | grep -E '^(seconds|messages|bytes_per_second)'
  done
  stop

  place() { load catch-up --pattern 'load*' --cpu 1 | awk '$1 == "cursor" {print $2}'; }
  serve streams-resume
  load fill --entities 10000 --properties 3 --cpu 1 --json
  cursor=$(place)
  load fill --entities 10000 --events 100000 --properties 3 --cpu 1 --json
  for mode in entity event; do
    printf '\n100,000 missed events of 10,000 entities, mode %s\n' "$mode"
    load catch-up --pattern 'load*' --mode "$mode" --since "$cursor" --cpu 1 | grep -v cursor
  done
  cursor=$(place)
  load fill --entities 1000 --events 10000 --properties 3 --cpu 1 --json
  stop
  serve streams-resume
  printf '\na thousand clients resume after a restart: 10,000 missed events of 1,000 entities each; 1,000 events a second beside\n'
  load publish --connections 16 --rate 1000 --namespace beside --properties 3 --warmup 0 --duration 5 --cpu 1 |
    grep -E '^(requests_per_second|p50_us|p99_us)' &
  publishing=$!
  load catch-up --clients 1000 --pattern 'load*' --since "$cursor" --cpu 1 | grep -v cursor
  wait "$publishing"
  stop

  for greeting in websocket property entity event stream; do
    serve "streams-idle-$greeting"
    printf '\n%s idle streams: %s\n' "${IDLE:-10000}" "$greeting"
    load idle --count "${IDLE:-10000}" --greeting "$greeting" --duration 3 --pid "$server"
    stop
  done
}

# serve_tls <key> <directory> [option…]: Flux by TLS, with a certificate of this key, ec or rsa.
serve_tls() {
  local key=$1
  shift
  scheme=https
  export FLUX_CA_FILE=$data/$key.pem
  serve "$@" --tls-cert-file "$data/$key.pem" --tls-key-file "$data/$key.key"
}

# Throughput by TLS and without, publishers beside handshakes, and idle connections.
tls() {
  local key durability round handshakes beside
  made() {
    openssl req -x509 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
      -addext basicConstraints=critical,CA:FALSE -newkey "${@:2}" \
      -out "$data/$1.pem" -keyout "$data/$1.key" 2>/dev/null
  }
  made ec ec -pkeyopt ec_paramgen_curve:P-256
  made rsa rsa:2048
  for durability in sync async; do
    for round in $(seq "$rounds"); do
      for scheme in http https; do
        printf '\n%s, %s, 64 connections (round %s)\n' "$scheme" "$durability" "$round"
        if [ "$scheme" = http ]; then serve "tls$round-$durability" --durability "$durability"; fi
        if [ "$scheme" = https ]; then serve_tls ec "tls$round-$durability" --durability "$durability"; fi
        load publish --connections 64 --properties 3 --duration "$seconds" --server-pid "$server" --cpu 1 |
          grep -E '^(requests_per_second|server_us|p50_us|p99_us|generator)'
        load get --connections 64 --duration "$seconds" --server-pid "$server" --cpu 1 |
          grep -E '^(requests_per_second|server_us|generator)'
        stop
      done
    done
  done
  for key in ec rsa; do
    for round in $(seq "$rounds"); do
      serve_tls "$key" "tls-$key-$round"
      for handshakes in 0 200; do
        printf '\n5,000 events a second from 16 connections beside %s handshakes a second, %s key (round %s)\n' \
          "$handshakes" "$key" "$round"
        if [ "$handshakes" -gt 0 ]; then
          load handshakes --rate "$handshakes" --duration "$((seconds + 3))" >"$data/handshakes" &
          beside=$!
        fi
        load publish --connections 16 --properties 3 --rate 5000 --duration "$seconds" --cpu 1 |
          grep -E '^(requests_per_second|p50_us|p99_us|max_us|generator)'
        if [ "$handshakes" -gt 0 ]; then
          wait "$beside"
          grep -E '^(handshakes_per_second|p50_us|p99_us)' "$data/handshakes"
        fi
      done
      stop
    done
  done
  for scheme in http https; do
    if [ "$scheme" = http ]; then serve tls-idle; else serve_tls ec tls-idle; fi
    printf '\n%s idle connections, %s\n' "${IDLE:-10000}" "$scheme"
    load idle --count "${IDLE:-10000}" --greeting request --duration 3 --pid "$server"
    stop
  done
  scheme=http
}

# What publishers notice while a thousand sources are polled, a hundred a second. The source shares
# the load's core.
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

if [ "$1" = table ]; then
  shift
  table "$@"
else
  for what in "$@"; do
    case $what in
      watch | idle | overload | sizes | steady | start | known | checkpoint | history | connectors | streams | tls) "$what" ;;
      *) printf 'no figures are named %s\n' "$what" >&2; exit 2 ;;
    esac
  done
fi
