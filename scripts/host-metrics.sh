#!/usr/bin/env bash
# Publishes this machine's load, memory, disks and network interfaces as entities of a Flux server;
# `--help` says how.
#
# The figures are those of the kernel (/proc). Counters stay counters since boot, so a reader can
# take differences over any interval and loses nothing if a round is lost. A round is one batch,
# sent through flux.sh beside this file.
set -euo pipefail
export LC_ALL=C

# shellcheck disable=SC2016 # `kill` is text
readonly USAGE='usage: host-metrics.sh [--once]

Publishes the load, memory, disks and network interfaces of this machine, every 5 seconds until it
is stopped, as these entities:

  host-<name>/load             host-<name>/disk/<device>
  host-<name>/memory           host-<name>/network/<interface>

  --once   one round only; the exit code says whether it was accepted

environment:
  INTERVAL        seconds between rounds (default 5)
  FLUX_NAMESPACE  the namespace of the entities (default host-<host name>)
  FLUX_URL        the server (default http://localhost:3000)
  FLUX_TOKEN      the token of the namespace, if the server asks for one

While the server is away it says so and goes on. Ctrl-C stops it, and in the background `kill`;
both end it with 0.

example:
  host-metrics.sh & metrics=$!
  kill "$metrics"'

readonly STREAM=host.metrics
readonly INTERVAL=${INTERVAL:-5}

complain() {
  printf 'host-metrics.sh: %s\n' "$1" >&2
}

refuse() {
  complain "$1; see host-metrics.sh --help"
  exit 2
}

# beside <name>: sets BESIDE to the path of a file beside this script, also if symbolic links lead
# to this script.
beside() {
  local file=${BASH_SOURCE[0]}
  if [[ -L $file ]]; then
    command -v readlink >/dev/null 2>&1 || refuse 'readlink is not installed; it finds the script behind a symbolic link'
    file=$(readlink -f -- "$file")
  fi
  BESIDE=./$1
  [[ $file != */* ]] || BESIDE=${file%/*}/$1
}

# A name that is a namespace too: lower case, digits and dashes, at most 32 bytes.
namespace() {
  local name
  name=$(</proc/sys/kernel/hostname)
  name=host-${name,,}
  name=${name//[!a-z0-9-]/-}
  printf '%s' "${name:0:32}"
}

# One batch as JSON, from the files of /proc. Numbers are passed on as text, or computed exactly,
# below 2^53.
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
    # Loop devices and RAM disks show other devices again. A device that never did anything is an
    # empty slot.
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
  1:--help | 1:-h)
    printf '%s\n' "$USAGE"
    exit
    ;;
  *) refuse 'unknown arguments' ;;
esac
[[ $INTERVAL =~ ^[0-9]{1,5}(\.[0-9]{1,3})?$ && $INTERVAL =~ [1-9] ]] || refuse "INTERVAL is not a number of seconds above 0: $INTERVAL"
for tool in awk sleep; do
  command -v "$tool" >/dev/null 2>&1 || refuse "$tool is not installed"
done
beside flux.sh
FLUX=$BESIDE
[[ -x $FLUX ]] || refuse "there is no flux.sh beside it: $FLUX"

# A container may hide some of these files. Uptime comes first, because the entity of the load
# carries it.
READABLE=()
for file in /proc/uptime /proc/loadavg /proc/meminfo /proc/diskstats /proc/net/dev; do
  [[ -r $file ]] && READABLE+=("$file")
done

name=${FLUX_NAMESPACE:-$(namespace)}
if $once; then
  publish "$name"
  exit
fi

# bash runs a trap only between commands. So slow commands run in the background, and a signal
# interrupts `wait`.
child=
stop() {
  [[ -z $child ]] || kill "$child" 2>/dev/null || true
  exit 0
}
trap stop INT TERM

while true; do
  publish "$name" &
  child=$!
  wait "$child" || complain "nothing published, next try in $INTERVAL s"
  sleep "$INTERVAL" &
  child=$!
  wait "$child" || true
done
