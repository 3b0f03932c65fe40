#!/usr/bin/env bash
# What healthy clients notice of hostile and of greedy ones: rate and p99 without them and beside
# them, in turns.
#
#   bench/hostile.sh [memory] [past] [batches] [braces] [large] [crowd] [greedy]     (none: all)
#
# memory    300 connections that send most of a body, or ask for much and read nothing
# past      connections that pipeline 500 reads of the past and close at once
# batches   batches of one event of 10 MiB with very many names
# braces    batches of 150,000 `{}`, 450 KB each
# large     pipelined GETs of an entity of 3 MiB
# crowd     2500 connections at a time that ask for megabytes, read nothing, and go after a second
# greedy    one connection that publishes with 256 requests in flight, beside 100 modest clients
#
# ROUNDS (3) turns of SECONDS_EACH (5), each kind with a server of its own on ENTITIES (100000). The
# server has one shard on core 0; healthy and hostile clients share core 1, so `late` says how much
# of a p99 is the healthy clients' own. PROFILE=debug tries the script, and measures nothing. Needs
# python3.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-5} rate=${RATE:-2000} entities=${ENTITIES:-100000}
profile=${PROFILE:-release}
case $profile in
  release) cargo build --release --quiet --locked --workspace ;;
  debug) cargo build --quiet --locked --workspace ;;
  *) echo "PROFILE is release or debug" >&2; exit 2 ;;
esac
bin=$PWD/target/$profile
data=$(mktemp -d "$PWD/target/hostile.XXXXXX")
port=$((10000 + RANDOM % 20000)) # below the ports that the kernel gives to clients
server='' hostile=''
finish() {
  [ -z "$hostile" ] || kill "$hostile" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait
  rm -rf "$data"
}
trap finish EXIT

start() { # a server on a fresh data directory
  rm -rf "$data/flux"
  taskset -c 0 "$bin/flux" --port "$port" --data-dir "$data/flux" --shards 1 2>"$data/log" &
  server=$!
  until curl -sf -o /dev/null "http://127.0.0.1:$port/ready"; do
    kill -0 "$server" 2>/dev/null || { tail -1 "$data/log" >&2; exit 1; }
    sleep 0.02
  done
  load fill --entities "$entities" --properties 3 --json >/dev/null
  python3 "$data/attack.py" prepare "$port" 0
}
stop() { # says what memory it took, and that it is still there
  kill -0 "$server" || { tail -1 "$data/log" >&2; exit 1; }
  grep -E 'RssAnon|VmHWM' "/proc/$server/status" | tr -s '\t\n' '  '
  echo
  kill "$server"
  wait "$server" || true
  server=''
}
load() { taskset -c 1 "$bin/flux-loadgen" "$@" --url "http://127.0.0.1:$port" 2>/dev/null; }

cat >"$data/attack.py" <<'PYTHON'
import itertools, resource, socket, sys, threading, time
kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
THREADS = 8
end, held, count = time.monotonic() + seconds, [], itertools.count()

def connect():
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    return connection

def get(target):
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

def post(body, length=None):
    head = f"POST /api/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body

def event(entity_id, properties):
    payload = f'{{"entity_id":"{entity_id}","properties":{{{properties}}}}}'
    return f'{{"events":[{{"stream":"s","source":"hostile","payload":{payload}}}]}}'.encode()

def answer(connection):  # The first bytes are enough to know that there is one.
    connection.recv(65536)

def memory():
    if len(held) >= 300:
        time.sleep(0.05)
        return
    connection = connect()
    held.append(connection)
    if next(count) % 2:
        connection.sendall(post(b" " * 900_000, 10_000_000))
    else:
        connection.sendall(get("/api/state/entities") * 20)

def past():
    with connect() as connection:
        connection.sendall(get("/api/events?namespace=load0&limit=500") * 250 + get("/api/state/entities?at=1") * 250)

MANY_NAMES = event("hostile/names", ",".join(f'"n{n}":0' for n in range(900_000)))
BRACES = b'{"events":[' + b",".join([b"{}"] * 150_000) + b"]}"

def batches():
    with connect() as connection:
        connection.sendall(post(MANY_NAMES))
        answer(connection)

def braces():
    with connect() as connection:
        connection.sendall(post(BRACES))
        answer(connection)

def large():
    with connect() as connection:
        connection.sendall(get("/api/state/entities/hostile/large") * 20)
        for _ in range(400):
            answer(connection)

ANSWERS = ["/api/state/entities?limit=1000", "/api/state/entities/hostile/large", "/openapi.json", "/metrics"]

def crowd():
    crowded = []
    for number in range(2500 // THREADS):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(get(ANSWERS[number % len(ANSWERS)]) * 32)
        crowded.append(connection)
    time.sleep(1)
    for connection in crowded:
        connection.close()

def loop():
    while time.monotonic() < end:
        try:
            globals()[kind]()
        except OSError:  # Refused or cut off, which is what it should be.
            time.sleep(0.01)

if kind == "prepare":
    with connect() as connection:
        connection.sendall(post(event("hostile/large", f'"text":"{"x" * 3_000_000}"')))
        answer(connection)
else:
    threads = [threading.Thread(target=loop, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
PYTHON

attack() { # attack <kind> <seconds>
  if [ "$1" = greedy ]; then
    load publish --connections 1 --pipeline 256 --namespace greedy --warmup 0 --duration "$2" >"$data/greedy"
  else
    taskset -c 1 nice -n 10 python3 "$data/attack.py" "$1" "$port" "$2"
  fi
}

measure() { # measure <kind> <beside or alone>
  local connections=16
  [ "$1" != greedy ] || connections=100
  load publish --connections "$connections" --rate "$rate" --properties 3 --warmup 1 --duration "$seconds" |
    awk -v what="$1" -v how="$2" '{ value[$1] = $2 }
      END { printf "%-8s %-7s %10s %10s %10s %9s %6s\n", what, how, value["requests_per_second"], value["p50_us"],
        value["p99_us"], value["sent_late_p99_us"], value["failures"] }'
}

[ $# -gt 0 ] || set -- memory past batches braces large crowd greedy
printf '%s events a second offered\n%-8s %-7s %10s %10s %10s %9s %6s\n' "$rate" beside '' 'rate /s' 'p50 us' 'p99 us' 'late us' failed
for kind in "$@"; do
  start
  for _ in $(seq "$rounds"); do
    measure "$kind" without
    attack "$kind" $((seconds + 3)) &
    hostile=$!
    sleep 1 # so that it is under way
    measure "$kind" with
    wait "$hostile"
    hostile=''
  done
  stop
done
