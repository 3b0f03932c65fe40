#!/usr/bin/env bash
# One subscriber of mode `event` that reads 1 KB a second while others publish, then reads all the
# rest: what the server's memory was, and whether every event came, once and in order.
#
#   bench/slow-reader.sh
#
# MINUTES (10) of RATE (50000) events a second, in batches of 500. Needs python3, and about 110
# bytes of disk for each event. Exits with 1 if the server ended the stream or an event is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${MINUTES:-10} rate=${RATE:-50000}
seconds=$((minutes * 60))
cargo build --release --quiet --locked --workspace
bin=$PWD/target/release
data=$(mktemp -d "$PWD/target/slow-reader.XXXXXX")
port=$((10000 + RANDOM % 20000)) # below the ports that the kernel gives to clients
server='' reader=''
finish() {
  [ -z "$reader" ] || kill "$reader" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait
  rm -rf "$data"
}
trap finish EXIT

cat >"$data/reader.py" <<'PYTHON'
import os, re, socket, sys, time
port, seconds, process, published = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
stream = socket.socket()
# Else the kernel of the client takes megabytes that the client has not read.
stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
stream.connect(("127.0.0.1", port))
stream.sendall(b"GET /api/stream?mode=event HTTP/1.1\r\nHost: localhost\r\n\r\n")

def memory():
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{process}/status").read())[1])

begun, text, peak = time.monotonic(), b"", 0
while time.monotonic() - begun < seconds or not os.path.exists(published):
    chunk = stream.recv(1024)
    if not chunk:
        sys.exit(f"the server ended the stream after {time.monotonic() - begun:.0f} s")
    text += chunk
    peak = max(peak, memory())
    time.sleep(1)
print(f"slow for {time.monotonic() - begun:.0f} s: {len(text)} bytes read, RssAnon at most {peak} KiB", flush=True)
stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
last, count, before, misplaced = int(open(published).read()), 0, 0, 0
while before < last:
    end = text.rfind(b"\n\n") + 1
    for found in re.finditer(rb'"sequence":(\d+)', text[:end]):
        sequence = int(found[1])
        misplaced += sequence != before + 1
        count, before = count + 1, sequence
    text = text[end:]
    chunk = stream.recv(1 << 20)
    if not chunk:
        sys.exit(f"the server ended the stream at event {before} of {last}")
    text += chunk
print(f"{count} events of {last}, {misplaced} missing, repeated or out of order")
sys.exit(misplaced > 0)
PYTHON

"$bin/flux" --port "$port" --data-dir "$data/flux" --shards 1 2>"$data/log" &
server=$!
until curl -sf -o /dev/null "http://127.0.0.1:$port/ready"; do
  kill -0 "$server" 2>/dev/null || { tail -1 "$data/log" >&2; exit 1; }
  sleep 0.02
done
python3 "$data/reader.py" "$port" "$seconds" "$server" "$data/published" &
reader=$!
sleep 1 # until it has subscribed
"$bin/flux-loadgen" batch --url "http://127.0.0.1:$port" --namespaces 1 --size 500 --rate $((rate / 500)) \
  --warmup 0 --duration "$seconds" 2>/dev/null | grep -E 'events_per_second|failures'
last='{"stream":"s","source":"bench","payload":{"entity_id":"last","properties":{}}}'
curl -sf -d "$last" "http://127.0.0.1:$port/api/events" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["sequence"])' >"$data/last"
mv "$data/last" "$data/published"
wait "$reader"
