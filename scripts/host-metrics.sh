#!/usr/bin/env bash
# Publishes this machine's load, memory, disks and network interfaces as entities of a Flux server:
#
#   host-<name>/load   host-<name>/memory   host-<name>/disk/<device>   host-<name>/network/<interface>
#
# The figures are the kernel's own (/proc), counters as counters since boot: whoever watches can take differences over
# any interval, and nothing is lost when a round is. A round is one batch through flux.sh, beside this file.
#
# usage: host-metrics.sh [--once]
#
# environment: INTERVAL (seconds between rounds, default 5), FLUX_NAMESPACE (default host-<host name>), and FLUX_URL
# and FLUX_TOKEN as for flux.sh. While the server is away it says so and goes on; SIGINT and SIGTERM end it with 0.
set -euo pipefail
export LC_ALL=C

readonly STREAM=host.metrics
readonly INTERVAL=${INTERVAL:-5}
FLUX="$(dirname -- "${BASH_SOURCE[0]}")/flux.sh"
readonly FLUX

usage() {
  printf 'host-metrics.sh: %s\nusage: [INTERVAL=seconds] host-metrics.sh [--once]\n' "$1" >&2
  exit 2
}

# A name that is a namespace too: lower case, digits and dashes, at most 32 bytes.
namespace() {
  local name
  name=$(cat /proc/sys/kernel/hostname)
  name=$(printf 'host-%s' "$name" | tr '[:upper:]' '[:lower:]' | tr -c 'a-z0-9-' '-')
  printf '%s' "${name:0:32}"
}

# One batch as JSON, from the files of /proc. Numbers are passed on as text or computed below 2^53, exactly.
sample() {
  awk -v namespace="$1" -v stream="$STREAM" '
    function quoted(text) { gsub(/["\\]/, "\\\\&", text); return "\"" text "\"" }
    function event(id, properties) {
      printf "%s{\"stream\":%s,\"source\":%s,\"payload\":{\"entity_id\":%s,\"properties\":{%s}}}", (count++ ? "," : "["), quoted(stream), quoted("host-metrics"), quoted(namespace "/" id), properties
    }
    function known(name) { return name in memory ? memory[name] : "null" }
    function bytes(count, unit) { return sprintf("%.0f", count * unit) }
    BEGIN { uptime = "null" }
    FILENAME == "/proc/uptime" { uptime = $1 }
    FILENAME == "/proc/loadavg" {
      split($4, tasks, "/")
      event("load", "\"load_1m\":" $1 ",\"load_5m\":" $2 ",\"load_15m\":" $3 ",\"tasks_running\":" tasks[1] ",\"tasks\":" tasks[2] ",\"uptime_seconds\":" uptime)
    }
    FILENAME == "/proc/meminfo" { sub(/:$/, "", $1); memory[$1] = bytes($2, 1024) }
    # Loop devices and RAM disks are other devices seen again; a device that never did anything is an empty slot.
    FILENAME == "/proc/diskstats" && $3 !~ /^(loop|ram|zram)[0-9]/ && $4 + $8 > 0 {
      event("disk/" $3, "\"reads\":" $4 ",\"read_bytes\":" bytes($6, 512) ",\"writes\":" $8 ",\"written_bytes\":" bytes($10, 512) ",\"in_flight\":" $12 ",\"busy_ms\":" $13)
    }
    # "eth0: 1 2 …" or "eth0:1 2 …"; the first two lines are headings.
    FILENAME == "/proc/net/dev" && FNR > 2 {
      interface = $0; sub(/:[^:]*$/, "", interface); sub(/^ +/, "", interface)
      figures = $0; sub(/^.*:/, "", figures); split(figures, f, " ")
      event("network/" interface, "\"received_bytes\":" f[1] ",\"received_packets\":" f[2] ",\"receive_errors\":" f[3] ",\"receive_drops\":" f[4] ",\"sent_bytes\":" f[9] ",\"sent_packets\":" f[10] ",\"send_errors\":" f[11] ",\"send_drops\":" f[12])
    }
    END {
      event("memory", "\"total_bytes\":" known("MemTotal") ",\"available_bytes\":" known("MemAvailable") ",\"free_bytes\":" known("MemFree") ",\"cached_bytes\":" known("Cached") ",\"swap_total_bytes\":" known("SwapTotal") ",\"swap_free_bytes\":" known("SwapFree"))
      print "]"
    }' "${READABLE[@]}"
}

publish() {
  sample "$1" | "$FLUX" batch - >/dev/null
}

once=false
case $#:${1-} in
  0:) ;;
  1:--once) once=true ;;
  *) usage 'unknown arguments' ;;
esac
[[ $INTERVAL =~ ^[0-9]{1,5}(\.[0-9]{1,3})?$ && $INTERVAL =~ [1-9] ]] || usage "INTERVAL is not a number of seconds above 0: $INTERVAL"

# A container may hide some of these; what is there is published. Uptime comes first, for the load to carry it.
READABLE=()
for file in /proc/uptime /proc/loadavg /proc/meminfo /proc/diskstats /proc/net/dev; do
  [[ -r $file ]] && READABLE+=("$file")
done

name=${FLUX_NAMESPACE:-$(namespace)}
if $once; then
  publish "$name"
  exit
fi

# bash runs a trap only between commands: what takes time runs in the background, and `wait` is interrupted at once.
child=
stop() {
  [[ -z $child ]] || kill "$child" 2>/dev/null || true
  exit 0
}
trap stop INT TERM

while true; do
  publish "$name" &
  child=$!
  wait "$child" || printf 'host-metrics.sh: nothing published, next try in %s s\n' "$INTERVAL" >&2
  sleep "$INTERVAL" &
  child=$!
  wait "$child" || true
done
