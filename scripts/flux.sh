#!/usr/bin/env bash
# A command line for a Flux server. It needs bash, curl, awk and the basic file tools. `flux.sh
# help` lists the commands, `flux.sh <command> --help` explains one of them.
#
# Arguments arrive as they were given: strings are escaped as JSON; ids and filters are
# percent-encoded byte by byte. JSON arguments are checked before anything is sent. Tokens go to
# curl through a file descriptor, because every user of a machine can read command lines.
#
# In a pipe the output is the bytes of the server. On a terminal it is laid out by the awk program
# PRETTY below and not by jq, because jq before 1.7 changes numbers: it shows 23.50 as 23.5.
#
# Exit codes: 0 done; 1 the server refused (the call, or an item of a batch) or cannot be reached; 2
# wrong usage or a missing tool, and nothing was sent.
# shellcheck disable=SC1003 # '\\' is a backslash, not an attempt to quote a quote
set -euo pipefail
export LC_ALL=C # bytes, not characters: lengths, ranges and encodings below depend on it

# shellcheck disable=SC2016 # the backticks are text
readonly USAGE='usage: flux.sh <command> [arguments]

  health                                   the health of the server
  publish <stream> <source> <id> <json>    publish an event: an entity and its properties
  increment <id> <property> [<amount>]     add to a number, and print what it came to
  batch <json>                             publish an array of events
  get <id>                                 the state of an entity
  list                                     entities, by prefix or namespace, in pages, in the past
  history <id>                             the stored events of an entity or of a namespace
  watch [<id> | <prefix>*]                 print every change, until it is stopped
  delete <id>                              delete an entity
  batch-delete <json>                      delete a namespace, a prefix or a list of entities
  connectors [show|add|remove|token]       the sources that the server polls
  admin-config [<json>]                    show or change the configuration of the server
  namespace create|show|list|private|public|rotate|delete
                                           namespaces, their first tokens, and who may read them
  token create|list|revoke                 the other tokens of a namespace
  help [<command>]                         this text; or how to use a command, as <command> --help

A JSON argument of - is read from standard input.

environment:
  FLUX_URL              the server (default http://localhost:3000)
  FLUX_CA_FILE          the certificate (PEM) of the authority to trust, if the server speaks TLS and
                        the system does not know it
  FLUX_TOKEN            the token of a namespace, if the server asks for one
  FLUX_ADMIN_TOKEN      the token of the operator: for admin-config and namespace, and for reading,
                        deleting and connectors if FLUX_TOKEN is not set
  FLUX_CONNECTOR_TOKEN  the credential that `connectors token` stores'

# explain <command>: how to use it, with an example.
explain() {
  local text
  case $1 in
    health) text='usage: flux.sh health

Prints the version, the uptime, the number of entities and the number of shards.

example:
  flux.sh health' ;;
    publish) text='usage: flux.sh publish <stream> <source> <entity_id> <properties>
                       [--if-absent | --if-version <n> | --if <filter>] [--event-id <id>]
                       [--ttl <seconds>]

Publishes one event. When this returns, the event is as durable as the server promises (on the disk,
by default). <properties> is a JSON object (- reads it from standard input): its members replace
those of the entity, others stay. Numbers are kept digit for digit.
  <stream>          what kind of event it is: a-z, 0-9 and dots
  <source>          who publishes it
  <entity_id>       the entity; the part before the first / is its namespace
  --if-absent       only if there is no such entity
  --if-version <n>  only if the entity has this version; one that is created anew begins at 1
  --if <filter>     only if there is an entity that matches, as in list --filter
  --event-id <id>   the same id, sent again, changes nothing and gets the first answer: so a command
                    that got no answer can be run again
  --ttl <seconds>   the entity is deleted so long after this event (0.1 to 315360000), unless a
                    later one says otherwise; null takes that back. <properties> may be left out

If a condition does not hold, nothing changes, the exit code is 1, and standard error shows the
entity as it is.

examples:
  flux.sh publish sensors agent-01 dawn-coral/sensor-01 '\''{"temperature":22.50}'\''
  flux.sh publish tasks planner board/task-42 '\''{"status":"open"}'\'' --if-absent
  flux.sh publish tasks worker-7 board/task-42 '\''{"owner":"worker-7"}'\'' --if-version 1
  flux.sh publish tasks worker-7 board/task-42 '\''{"status":"done"}'\'' --if '\''eq(owner,"worker-7")'\''
  flux.sh publish leases worker-7 board/leader '\''{"holder":"worker-7"}'\'' --if-absent --ttl 10' ;;
    increment) text='usage: flux.sh increment <entity_id> <property> [<amount>] [--event-id <id>]

Adds an amount (default 1, may be negative) to a number of an entity, and prints what it came to, in
exact decimals. An absent property counts as 0. Clients that add at the same time all count. The
event has the stream "increment" and the source "flux.sh".
  --event-id <id>  the same id, sent again, adds nothing and prints the first result: so a command
                   that got no answer can be run again

examples:
  flux.sh increment dawn-coral/visits count
  flux.sh increment dawn-coral/account balance -12.50 --event-id order-1174' ;;
    batch) text='usage: flux.sh batch <events> [--atomic]

Publishes a JSON array of events (- reads it from standard input). Each item is accepted or refused
by itself; the exit code is 1 if any was refused.
  --atomic  all of them take effect together or none: at most 1000, of one namespace

examples:
  flux.sh batch - <events.json
  flux.sh batch '\''[{"stream":"s","source":"me","payload":{"entity_id":"a/b","properties":{"n":1}}}]'\''' ;;
    get) text='usage: flux.sh get <entity_id> [--at <time>] [--fields <a,b>]

Prints the state of an entity.
  --at <time>     as it was at that time: RFC 3339 or Unix milliseconds
  --fields <a,b>  only these properties

example:
  flux.sh get dawn-coral/sensor-01 --fields temperature' ;;
    list) text='usage: flux.sh list [--prefix <p>] [--namespace <n>] [--limit <n>] [--after <id>] [--at <time>]
                    [--fields <a,b>] [--filter <f>]

Prints entities as a JSON array, ordered by id.
  --prefix <p>     ids that begin so
  --namespace <n>  ids of that namespace
  --limit <n>      at most so many (1 to 10000); if there are more, standard error names the --after
                   of the next page
  --after <id>     begin behind this id
  --at <time>      as they were at that time: RFC 3339 or Unix milliseconds; at most 10000 a page
  --fields <a,b>   only these properties
  --filter <f>     those that match: eq ne lt le gt ge in like exists, joined by and, or, not

examples:
  flux.sh list --namespace dawn-coral --limit 10 --fields temperature
  flux.sh list --filter "and(eq(status,\"open\"),ge(priority,3))"' ;;
    history) text='usage: flux.sh history [<entity_id>] [--namespace <n>] [--since <time>] [--until <time>]
                       [--limit <n>] [--before <cursor>]

Prints the stored events of an entity or of a namespace as a JSON array, newest first.
  --since <time>     accepted at this time or later: RFC 3339 or Unix milliseconds
  --until <time>     accepted at this time or earlier
  --limit <n>        at most so many (1 to 500, default 100); if there are more, standard error names
                     the --before of the next page
  --before <cursor>  the events before this place
An id that begins with two dashes comes behind another two: history -- --odd.

examples:
  flux.sh history dawn-coral/sensor-01 --limit 5
  flux.sh history --namespace dawn-coral --since 2026-01-31T12:00:00Z' ;;
    watch) text='usage: flux.sh watch [<entity_id> | <prefix>* | *] [options]

Prints one line of JSON for each entity and then for each change, until it is stopped (Ctrl-C):
  {"type":"entity","entity_id":…,"whole":true,"properties":…,"timestamp":…,"version":…}
  {"type":"entity","entity_id":…,"properties":…,"removed":…,"version":…,"sequence":…,"timestamp":…}
  {"type":"entity_deleted","entity_id":…,"sequence":…,"timestamp":…}
A line with "whole" holds the whole entity; another one holds what an event set and which properties
it removed. If the server goes away, the stream goes on afterwards from where it was, without a gap;
a line may then come twice. {"type":"resync",…} says that the history between is gone: all that was
printed before is void, and the entities follow. An id that begins with two dashes comes behind
another two: watch -- --odd.
  --filter <filter>    only entities that match
  --fields <a,b>       only changes to these properties, and only these of an entity
  --interval <seconds> at most one line for each entity in so many seconds (0.01 to 10), the last
  --mode event         every event as it is stored, from now on
  --since <cursor>     from that place on, without the entities first

examples:
  flux.sh watch dawn-coral/sensor-01
  flux.sh watch '\''dawn-coral/*'\'' --interval 0.5' ;;
    delete) text='usage: flux.sh delete <entity_id>

Deletes an entity. Its history stays.

example:
  flux.sh delete dawn-coral/sensor-01' ;;
    batch-delete) text='usage: flux.sh batch-delete <filter>

Deletes the entities that a JSON object names (- reads it from standard input): {"namespace": n},
{"prefix": p} or {"entity_ids": [...]}. The exit code is 1 if any of them could not be deleted.

example:
  flux.sh batch-delete '\''{"prefix":"dawn-coral/"}'\''' ;;
    connectors) text='usage: flux.sh connectors
       flux.sh connectors show <name>
       flux.sh connectors add <definition>
       flux.sh connectors remove <name>
       flux.sh connectors token <name> [--remove]

Without arguments: the sources that the server polls, and their status. Each subcommand has a
--help.

example:
  flux.sh connectors' ;;
    'connectors show') text='usage: flux.sh connectors show <name>

Prints a connector with its last poll and its last error.

example:
  flux.sh connectors show github' ;;
    'connectors add') text='usage: flux.sh connectors add <definition>

Defines an HTTP source by a JSON object (- reads it from standard input). docs/CONNECTORS.md has its
members.

example:
  flux.sh connectors add '\''{"name":"weather","url":"http://127.0.0.1:8001/","poll_interval_seconds":5,"entity_id":"w"}'\''' ;;
    'connectors remove') text='usage: flux.sh connectors remove <name>

Removes a defined source and its credential. Its entities stay.

example:
  flux.sh connectors remove weather' ;;
    'connectors token') text='usage: flux.sh connectors token <name> [--remove]

Stores the credential of a connector, or removes it. It is read from FLUX_CONNECTOR_TOKEN, else from
standard input, else it is asked for; never from the command line, which every user of the machine
can read.

examples:
  flux.sh connectors token github <token-file
  flux.sh connectors token github --remove' ;;
    admin-config) text='usage: flux.sh admin-config [<changes>]

Shows the configuration, or changes members of it by a JSON object (- reads it from standard input).
A change needs FLUX_ADMIN_TOKEN.

examples:
  flux.sh admin-config
  flux.sh admin-config '\''{"max_batch_delete":5000}'\''' ;;
    namespace) text='usage: flux.sh namespace create [<name>]
       flux.sh namespace show <name>
       flux.sh namespace list
       flux.sh namespace private|public <name>
       flux.sh namespace rotate <name>
       flux.sh namespace delete <name> [--purge]

Namespaces and their tokens, on a server that runs with FLUX_AUTH_ENABLED=true. Each subcommand has
a --help.

example:
  flux.sh namespace list' ;;
    'namespace create') text='usage: flux.sh namespace create [<name>]

Registers a namespace and prints its token, this once. Without a name the server makes one up.

example:
  flux.sh namespace create weather' ;;
    'namespace show') text='usage: flux.sh namespace show <name>

Prints a namespace, how many entities it holds, and who may read it. A private one is shown to its
readers: with FLUX_TOKEN or FLUX_ADMIN_TOKEN.

example:
  flux.sh namespace show weather' ;;
    'namespace list') text='usage: flux.sh namespace list

Prints all namespaces. It needs FLUX_ADMIN_TOKEN.

example:
  flux.sh namespace list' ;;
    'namespace private') text='usage: flux.sh namespace private <name>

Leaves a namespace to the operator and to tokens of it that may read. Nobody else is told anything
of it when this returns. It needs FLUX_TOKEN, a token of the namespace that may manage, or
FLUX_ADMIN_TOKEN.

example:
  flux.sh namespace private weather' ;;
    'namespace public') text='usage: flux.sh namespace public <name>

Lets everyone read a namespace. It needs FLUX_TOKEN, a token of the namespace that may manage, or
FLUX_ADMIN_TOKEN.

example:
  flux.sh namespace public weather' ;;
    'namespace rotate') text='usage: flux.sh namespace rotate <name>

Gives the namespace another token and prints it. The old token is dead when this returns.

example:
  flux.sh namespace rotate weather' ;;
    'namespace delete') text='usage: flux.sh namespace delete <name> [--purge]

Deletes a namespace and its token. Its entities stay, unless --purge deletes them too. It needs
FLUX_ADMIN_TOKEN.

example:
  flux.sh namespace delete weather --purge' ;;
    token) text='usage: flux.sh token create <namespace> [--scopes <scope>,…] [--label <text>] [--prefix <prefix>]
                                                [--expires <seconds>]
       flux.sh token list <namespace>
       flux.sh token revoke <namespace> <id>

The tokens of a namespace besides that of its registration. They need FLUX_TOKEN, a token of the
namespace with the scope manage, or else FLUX_ADMIN_TOKEN. Each subcommand has a --help.

example:
  flux.sh token list weather' ;;
    'token create') text='usage: flux.sh token create <namespace> [--scopes <scope>,…] [--label <text>] [--prefix <prefix>]
                                                [--expires <seconds>]

Makes a token and prints it, this once. It may do no more than the one that it is made with.

  --scopes <scope>,…   read, write, delete, manage (default write)
  --label <text>       a name for it
  --prefix <prefix>    only ids that begin so; it begins with the namespace and a slash
  --expires <seconds>  it is dead so many seconds later

example:
  flux.sh token create weather --label oslo --scopes write --prefix weather/oslo --expires 3600' ;;
    'token list') text='usage: flux.sh token list <namespace>

Prints the tokens of a namespace without their secrets, and when each was last used.

example:
  flux.sh token list weather' ;;
    'token revoke') text='usage: flux.sh token revoke <namespace> <id>

Ends a token, by its id. It is dead when this returns.

examples:
  flux.sh token list weather
  flux.sh token revoke weather tok_0190a1b2c3d47e5f8a9b0c1d2e3f4a5b' ;;
    *) refuse "no such command: $1; see flux.sh help" ;;
  esac
  printf '%s\n' "$text"
}

fail() {
  printf 'flux.sh: %s\n' "$1" >&2
  exit 1
}

refuse() {
  printf 'flux.sh: %s\n' "$1" >&2
  exit 2
}

# expect_tools: names the first tool that is missing. Help needs none of them.
expect_tools() {
  local tool
  for tool in curl awk mktemp cat tail rm; do
    command -v "$tool" >/dev/null 2>&1 || refuse "$tool is not installed; flux.sh needs curl, awk, mktemp, cat, tail and rm"
  done
}

# expect_count <command> <given> <least> <most>
expect_count() {
  if (($2 < $3 || $2 > $4)); then
    refuse "$1: wrong number of arguments ($2); see flux.sh $1 --help"
  fi
}

expect_text() {
  [[ -n $2 ]] || refuse "$1 must not be empty"
}

# Reads JSON (RFC 8259) from standard input. Without `member`: exits 0 if it is one value of type
# `want`; otherwise prints what is wrong and exits 1. With `member`: prints that member of the
# outermost object, strings decoded. It goes character by character. No token but white space spans
# lines, so it reads one line at a time.
# shellcheck disable=SC2016 # $0 is awk's
readonly JSON_READER='
function bad(why) { if (member == "") print why " (line " NR ", column " at ")"; failed = 1; exit 1 }
function hex4(digits,    i, sum) {
  if (digits !~ /^[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]$/) bad("a bad \\u escape")
  for (i = 1; i <= 4; i++) sum = sum * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
  return sum
}
function utf8(code) {
  if (code < 128) return sprintf("%c", code)
  if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
  if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
  return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
function escape(    letter, high, low) {
  letter = substr($0, at + 1, 1)
  if (letter == "u") {
    high = hex4(substr($0, at + 2, 4)); at += 6
    if (high >= 56320 && high <= 57343) bad("an unpaired surrogate")
    if (high < 55296 || high > 57343) return utf8(high)
    if (substr($0, at, 2) != "\\u") bad("an unpaired surrogate")
    low = hex4(substr($0, at + 2, 4)); at += 6
    if (low < 56320 || low > 57343) bad("an unpaired surrogate")
    return utf8(65536 + (high - 55296) * 1024 + low - 56320)
  }
  if (letter == "" || !(letter in ESCAPES)) bad("a bad escape in a string")
  at += 2
  return ESCAPES[letter]
}
# A character beyond ASCII: shortest form, no surrogates, at most U+10FFFF (RFC 3629).
function beyond_ascii(    first, second, count, i, next_byte) {
  first = BYTE[substr($0, at, 1)]
  count = first >= 194 && first <= 223 ? 1 : first >= 224 && first <= 239 ? 2 : first >= 240 && first <= 244 ? 3 : 0
  second = BYTE[substr($0, at + 1, 1)] + 0
  if (!count || first == 224 && second < 160 || first == 237 && second > 159 || first == 240 && second < 144 || first == 244 && second > 143) bad("text that is not UTF-8")
  for (i = 1; i <= count; i++) {
    next_byte = BYTE[substr($0, at + i, 1)] + 0
    if (next_byte < 128 || next_byte > 191) bad("text that is not UTF-8")
  }
  at += count + 1
  return substr($0, at - count - 1, count + 1)
}
function string(    text, c, piece) {
  text = ""; at++
  while ((c = substr($0, at, 1)) != "\"") {
    if (c == "") bad("a string without its closing quote")
    if (c < " ") bad("a raw control character in a string")
    if (c == "\\") piece = escape()
    else if (c > "~" && BYTE[c] > 127) piece = beyond_ascii()
    else { piece = c; at++ }
    if (member != "") text = text piece
  }
  at++
  return text
}
function word(    start) {
  start = at
  while (substr($0, at, 1) ~ /^[-+.0-9A-Za-z_]$/) at++
  return substr($0, start, at - start)
}
function value(type, text) {
  if (depth == 0) top = type
  if (depth == 1 && key == member && member != "") found = text
  expect = depth == 0 ? "end" : "comma"
}
function open_container(c) {
  value(c == "{" ? "object" : "array", c)
  kind[++depth] = c
  expect = c == "{" ? "key or }" : "value or ]"
}
function close_container(c) {
  if (depth == 0 || kind[depth] != (c == "}" ? "{" : "[") || expect != "comma" && expect !~ /or/) bad("an unexpected " c)
  depth--
  expect = depth == 0 ? "end" : "comma"
}
function scalar(c,    text) {
  if (c == "\"") { value("string", string()); return }
  text = word()
  if (text == "true" || text == "false") value("boolean", text)
  else if (text == "null") value("null", text)
  else if (text ~ /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$/) value("number", text)
  else { at -= length(text); bad(text == "" ? "an unexpected character" : "an unexpected " text) }
}
function separator(c) {
  if (c == ":" && expect == "colon") expect = "value"
  else if (c == "," && expect == "comma") expect = kind[depth] == "{" ? "key" : "value"
  else bad("an unexpected " c)
  at++
}
function token(c) {
  if (c == "}" || c == "]") { close_container(c); at++ }
  else if (c == ":" || c == ",") separator(c)
  else if (expect == "key" || expect == "key or }") {
    if (c != "\"") bad("a member name must be a string")
    key = string()
    if (depth > 1) key = ""
    expect = "colon"
  }
  else if (expect != "value" && expect != "value or ]") bad(expect == "end" ? "text after the end" : "a missing comma or colon")
  else if (c == "{" || c == "[") { open_container(c); at++ }
  else scalar(c)
}
BEGIN {
  expect = "value"
  for (i = 1; i < 256; i++) BYTE[sprintf("%c", i)] = i
  ESCAPES["\""] = "\""; ESCAPES["\\"] = "\\"; ESCAPES["/"] = "/"; ESCAPES["b"] = "\b"
  ESCAPES["f"] = "\f"; ESCAPES["n"] = "\n"; ESCAPES["r"] = "\r"; ESCAPES["t"] = "\t"
}
{
  at = 1
  while ((c = substr($0, at, 1)) != "") {
    if (c == " " || c == "\t" || c == "\r") at++
    else token(c)
  }
}
END {
  if (failed) exit 1
  if (member != "") { printf "%s", found; exit 0 }
  if (expect != "end") { print "it ends too early"; exit 1 }
  if (want != "" && top != want) { print "it must be " (want ~ /^[ao]/ ? "an " : "a ") want ", not " (top == "null" ? top : (top ~ /^[ao]/ ? "an " : "a ") top); exit 1 }
}'

# The programs below read JSON of the server. A record ends at a quote (RS), so records are by turns
# what is outside of strings, given to outside(), and the text of a string as it is written, given
# to string(). Neither needs memory for more than one string, and no number is changed.
# shellcheck disable=SC2016 # $0 is awk's
readonly PIECES='
function piece(between_quotes) {
  if (!in_string) { outside(between_quotes); in_string = 1; text = ""; return }
  text = text between_quotes
  # After an odd number of backslashes the quote belongs to the text.
  if (match(between_quotes, /\\+$/) && RLENGTH % 2) { text = text "\""; return }
  string(text)
  in_string = 0
}'
# shellcheck disable=SC2016 # $0 is awk's
readonly SPLIT_AT_QUOTES="$PIECES"'
BEGIN { RS = "\""; ORS = "" }
{ piece($0) }'

# Lays JSON out for a terminal. Strings keep their text, but for control characters beyond ASCII
# (C1) and DEL, which a terminal may obey: they are shown as escapes. The server escapes those below
# U+0020.
readonly PRETTY='
BEGIN { for (i = 128; i < 160; i++) BYTE[sprintf("%c", i)] = i }
function new_line(    i) { print "\n"; for (i = 0; i < depth; i++) print "  " }
function begin_value() { if (on_new_line) new_line(); on_new_line = 0 }
function outside(text,    i, c) {
  for (i = 1; (c = substr(text, i, 1)) != ""; i++) {
    if (c ~ /[ \t\r\n]/) continue
    if (c == "{" || c == "[") { begin_value(); print c; depth++; on_new_line = 1 }
    else if (c == "}" || c == "]") { depth--; if (!on_new_line) new_line(); on_new_line = 0; print c }
    else if (c == ",") { print c; on_new_line = 1 }
    else if (c == ":") print ": "
    else { begin_value(); print c }
  }
}
function string(text,    code) {
  begin_value()
  print "\""
  while (match(text, /\177|\302[\200-\237]/)) {
    code = RLENGTH == 1 ? 127 : BYTE[substr(text, RSTART + 1, 1)]
    print substr(text, 1, RSTART - 1) sprintf("\\u%04x", code)
    text = substr(text, RSTART + RLENGTH)
  }
  print text "\""
}
END { print "\n" }'

# Reads an array of entities. Prints for each the message of a live stream that tells its whole
# state. `level` is the depth at which the members of an entity are.
readonly ENTITY_MESSAGES='
BEGIN { level = 2 }
function end_member() {
  if (key == "id") id = value
  else if (key != "") rest = rest ",\"" (key == "lastUpdated" ? "timestamp" : key) "\":" value
  key = value = ""
}
function outside(text,    i, c) {
  for (i = 1; (c = substr(text, i, 1)) != ""; i++) {
    if (c ~ /[ \t\r\n]/) continue
    if (c == "{" || c == "[") {
      if (++depth == level) { id = rest = ""; want_key = 1 }
      else if (depth > level) value = value c
    }
    else if (c == "}" || c == "]") {
      if (depth == level && c == "}") { end_member(); print "{\"type\":\"entity\",\"entity_id\":" id ",\"whole\":true" rest "}\n" }
      else if (depth > level) value = value c
      depth--
    }
    else if (depth < level) continue
    else if (depth == level && c == ",") { end_member(); want_key = 1 }
    else if (depth == level && c == ":") want_key = 0
    else value = value c
  }
}
function string(text) {
  if (depth == level && want_key) key = text
  else value = value "\"" text "\""
}'

# Prints a member of the outermost object as it is written.
readonly RAW_MEMBER='
function end_member() {
  if (key == member) print value
  key = value = ""
}
function outside(text,    i, c) {
  for (i = 1; (c = substr(text, i, 1)) != ""; i++) {
    if (c ~ /[ \t\r\n]/) continue
    if (c == "{" || c == "[") { if (++depth == 1) want_key = 1; else value = value c }
    else if (c == "}" || c == "]") { if (depth-- == 1) end_member(); else value = value c }
    else if (depth == 1 && c == ",") { end_member(); want_key = 1 }
    else if (depth == 1 && c == ":") want_key = 0
    else value = value c
  }
}
function string(text) {
  if (depth == 1 && want_key) key = text
  else value = value "\"" text "\""
}'

# Reads server-sent events (HTML Standard, section 9.2). Prints the messages that tell entities, and
# the entities of a snapshot as such messages. The place from which the stream can go on is in the
# file `place`; an error, and an answer that is no stream, are in the file `answer`.
# shellcheck disable=SC2016 # $0 is awk's
readonly STREAM_MESSAGES="$PIECES$ENTITY_MESSAGES"'
BEGIN { ORS = "" }
function entities(array,    pieces, count, i) {
  depth = in_string = 0
  key = value = ""
  count = split(array, pieces, "\"")
  for (i = 1; i <= count; i++) piece(pieces[i])
}
function dispatch() {
  if (type == "snapshot") {
    sub(/,"more":(true|false)[}]$/, "", data)
    entities(substr(data, index(data, "[")))
  }
  else if (type == "error") { print data > answer; close(answer) }
  else if (type ~ /^(entity|entity_deleted|event|state_update|resync)$/) print data "\n"
  fflush()
  if (has_id) { print last_id > place; close(place) }
  type = data = ""
  has_id = 0
}
{ sub(/\r$/, "") }
!is_stream && !/^[a-z]*:/ { print $0 > answer; next }
{ is_stream = 1 }
$0 == "" { dispatch(); next }
{
  name = content = $0
  sub(/:.*/, "", name)
  sub(/^[^:]*: ?/, "", content)
  if (name == "event") type = content
  else if (name == "data") data = content
  else if (name == "id") { last_id = content; has_id = 1 }
}
END { close(answer) }'

# expect_json <name> <wanted type or empty> <text>
expect_json() {
  local why
  if ! why=$(printf '%s' "$3" | awk -v want="$2" -v member= "$JSON_READER"); then
    refuse "bad JSON in $1: $why"
  fi
}

# member_of <file> <name>: a member of the JSON object in the file, empty if it has none.
member_of() {
  awk -v want= -v member="$2" "$JSON_READER" <"$1" 2>/dev/null || true
}

# raw_member_of <file> <name>: the same, as the JSON that stands there.
raw_member_of() {
  awk -v member="$2" "$RAW_MEMBER$SPLIT_AT_QUOTES" <"$1"
}

# header_of <name in lower case>: the value of a header of the answer, empty if it has none.
header_of() {
  awk -v name="$1:" 'tolower($1) == name { sub(/\r$/, ""); sub(/^[^ ]* */, ""); print; exit }' "$WORK/head"
}

# json_argument <given>: sets JSON to the argument, or to standard input if it is `-`.
json_argument() {
  JSON=$1
  if [[ $1 == - ]] && IFS= read -r -d '' JSON; then
    refuse 'standard input holds a NUL byte'
  fi
}

# json_string <text>: sets STRING to the text as a JSON string, quotes included.
json_string() {
  local text=$1 code char escaped
  local backslash='\' quote='"'
  text=${text//"$backslash"/"$backslash$backslash"}
  text=${text//"$quote"/"$backslash$quote"}
  if [[ $text == *[$'\001'-$'\037']* ]]; then
    for ((code = 1; code < 32; code++)); do
      printf -v escaped '\\x%02x' "$code"
      printf -v char '%b' "$escaped"
      printf -v escaped '\\u%04x' "$code"
      text=${text//"$char"/"$escaped"}
    done
  fi
  STRING=$quote$text$quote
}

# percent_encode <text> <characters kept besides the unreserved>: sets ENCODED (RFC 3986 §2.1).
percent_encode() {
  local text=$1 kept=$2 index char
  ENCODED=
  for ((index = 0; index < ${#text}; index++)); do
    char=${text:index:1}
    if [[ $char == [a-zA-Z0-9._~-] || (-n $kept && $char == "$kept") ]]; then
      ENCODED+=$char
    else
      printf -v char '%d' "'$char"
      # Some versions of bash make bytes from 0x80 on negative.
      printf -v char '%%%02X' "$((char & 255))"
      ENCODED+=$char
    fi
  done
}

# The only header that is secret, as a curl configuration on a descriptor.
authorization() {
  local token=$1 backslash='\' quote='"'
  [[ -n $token ]] || return 0
  token=${token//"$backslash"/"$backslash$backslash"}
  token=${token//"$quote"/"$backslash$quote"}
  printf 'header = "Authorization: Bearer %s"\n' "$token"
}

# choose_token <whose>: sets TOKEN, TOKEN_NAME (the variable that it came from) and TOKEN_WANTED
# (for messages).
#   namespace  the token of a namespace
#   operator   that of the operator
#   either     that of a namespace if there is one, else that of the operator
#   none       no token
choose_token() {
  TOKEN='' TOKEN_NAME='' TOKEN_WANTED=''
  case $1 in
    namespace) TOKEN_NAME=FLUX_TOKEN TOKEN_WANTED='FLUX_TOKEN to the token of the namespace' ;;
    operator) TOKEN_NAME=FLUX_ADMIN_TOKEN TOKEN_WANTED="FLUX_ADMIN_TOKEN to the operator's token" ;;
    either)
      TOKEN_NAME=FLUX_TOKEN
      [[ -n ${FLUX_TOKEN-} || -z ${FLUX_ADMIN_TOKEN-} ]] || TOKEN_NAME=FLUX_ADMIN_TOKEN
      TOKEN_WANTED="FLUX_TOKEN to the token of the namespace, or FLUX_ADMIN_TOKEN to the operator's"
      ;;
  esac
  [[ -z $TOKEN_NAME ]] || TOKEN=${!TOKEN_NAME-}
  [[ $TOKEN != *[[:cntrl:]]* ]] || refuse "$TOKEN_NAME holds a control character"
}

# prepare <whose token>: what every request needs.
prepare() {
  URL=${FLUX_URL:-http://localhost:3000}
  [[ $URL =~ ^https?://[^[:space:][:cntrl:]]+$ ]] || refuse "FLUX_URL is not an http or https address: $URL"
  while [[ $URL == */ ]]; do URL=${URL%/}; done
  [[ -z ${FLUX_CA_FILE-} || -r $FLUX_CA_FILE ]] || refuse "FLUX_CA_FILE can't be read: $FLUX_CA_FILE"
  choose_token "$1"
  # Answers may be larger than memory: a file takes them. Global, so that the trap still sees it.
  WORK=$(mktemp -d) || fail 'no temporary directory could be made'
  trap 'rm -rf -- "$WORK"' EXIT
  ANSWER=$WORK/answer
}

# request <method> <path> [<body>]: sets STATUS; the answer is in the files ANSWER and $WORK/head.
# If there is no answer it fails and sets WHY.
request() {
  local -a options=(--silent --show-error --globoff --path-as-is --connect-timeout 5 --speed-time 60 --speed-limit 1
    --output "$ANSWER" --dump-header "$WORK/head" --write-out '%{http_code}' --request "$1")
  : >"$ANSWER"
  if (($# > 2)); then
    options+=(--header 'Content-Type: application/json' --data-binary @-)
  fi
  [[ -z ${FLUX_CA_FILE-} ]] || options+=(--cacert "$FLUX_CA_FILE")
  # `-q` ignores ~/.curlrc.
  if ! STATUS=$(printf '%s' "${3-}" | curl -q "${options[@]}" --config <(authorization "$TOKEN") --url "$URL$2" 2>"$WORK/reason"); then
    no_answer
    return 1
  fi
}

# no_answer: sets WHY to curl's reason, and to what may help. More lines may come before and after.
no_answer() {
  WHY=$(awk '/^curl: /{ reason = $0 } END { print reason == "" ? $0 : reason }' "$WORK/reason")
  WHY="no answer from $URL: ${WHY#curl: }"
  [[ $WHY != *": (60) "* || -n ${FLUX_CA_FILE-} ]] ||
    WHY+='; set FLUX_CA_FILE to the certificate of the authority, if it is one of your own'
}

# refusal: sets WHY to the message of the server and to what may help.
refusal() {
  WHY=$(member_of "$ANSWER" error)
  # A message may quote an id: none of its control characters reaches the terminal.
  WHY="${WHY//[[:cntrl:]]/?}${WHY:+ }(HTTP $STATUS)$(advice)"
}

# advice: what may help, by the status and by the token that was sent.
advice() {
  local seconds
  case $STATUS in
    401 | 403)
      case $(member_of "$ANSWER" code) in
        # Refused to everyone: no token helps.
        admin_disabled | reserved_namespace | connector_built_in | origin_refused | host_refused) return 0 ;;
      esac
      if [[ -z $TOKEN ]]; then
        printf '; no token was sent%s' "${TOKEN_WANTED:+: set $TOKEN_WANTED}"
      elif [[ $STATUS == 401 ]]; then
        printf '; the server does not accept the token in %s' "$TOKEN_NAME"
      else
        printf '; the token in %s does not allow this' "$TOKEN_NAME"
      fi
      ;;
    429)
      seconds=$(header_of retry-after)
      [[ $seconds =~ ^[0-9]+$ ]] || seconds=60
      printf '; try again in %s s' "$seconds"
      ;;
  esac
}

# send <whose token> <method> <path> [<body>]: prints the answer; fails with what went wrong.
send() {
  ask "$@"
  print_answer
}

# ask <whose token> <method> <path> [<body>]: the same without printing the answer.
ask() {
  prepare "$1"
  shift
  request "$@" || fail "$WHY"
  if [[ $STATUS != 2?? ]]; then
    refusal
    show_entity
    fail "$WHY"
  fi
}

# show_entity: after a condition that did not hold, adds the entity as it is to WHY.
show_entity() {
  local entity
  [[ $STATUS == 409 ]] || return 0
  entity=$(raw_member_of "$ANSWER" entity)
  case $entity in
    '') ;;
    null) WHY+='; there is no such entity' ;;
    *)
      [[ ! -t 2 ]] || entity=$(printf '%s' "$entity" | awk "$PRETTY$SPLIT_AT_QUOTES")
      WHY+="; the entity is:"$'\n'"$entity"
      ;;
  esac
}

print_answer() {
  local first=
  IFS= read -r -n 1 first <"$ANSWER" || true
  if [[ -t 1 && ($first == '{' || $first == '[') ]]; then
    awk "$PRETTY$SPLIT_AT_QUOTES" <"$ANSWER"
  else
    cat -- "$ANSWER"
    [[ -z $(tail -c 1 "$ANSWER") ]] || echo
  fi
}

# announce_next_page <option>: names the option that asks for the next page, on standard error, if
# there is one.
announce_next_page() {
  local link next
  link=$(header_of link)
  [[ $link =~ [?\&]"${1#--}"=([^\&\>]*) ]] || return 0
  next=${BASH_REMATCH[1]}
  # Percent escapes become bytes. The server escapes a backslash too, so `%b` sees no other escapes.
  printf -v next '%b' "${next//\%/\\x}"
  printf 'flux.sh: there are more; the next page: %s %q\n' "$1" "$next" >&2
}

# The items of a batch fail one by one under a status of 200: the exit code tells scripts.
report_failed_items() {
  local failed
  failed=$(member_of "$ANSWER" failed)
  [[ -z $failed || $failed == 0 ]] || fail "$failed of the items failed"
}

# read_options <command> <known options, a space around each> <arguments…>: reads `--name value`
# and `--name=value`. Adds them to QUERY, and sets INTERVAL.
read_options() {
  local command=$1 known=$2 name value seen=' '
  shift 2
  while (($# > 0)); do
    name=${1%%=*}
    [[ $name =~ ^--[a-z]+$ && $known == *" $name "* ]] || refuse "$command: unknown argument $1; see flux.sh $command --help"
    [[ $seen != *" $name "* ]] || refuse "$command: $name is given twice"
    seen+="$name "
    if [[ $1 == --*=* ]]; then
      value=${1#*=}
    else
      (($# > 1)) || refuse "$command: $name needs a value; see flux.sh $command --help"
      shift
      value=$1
    fi
    shift
    if [[ $name == --interval ]]; then
      INTERVAL=$value
    else
      percent_encode "$value" "$([[ $name != --fields ]] || printf ,)"
      # A stream calls fields properties.
      [[ $command != watch || $name != --fields ]] || name=properties
      QUERY+="${QUERY:+&}${name#--}=$ENCODED"
    fi
  done
}

# read_conditions <command> <arguments…>: reads the options of a publish. Sets the members that
# they add to the event (MEMBERS) and to its payload (TTL), and REST to the arguments that are left.
read_conditions() {
  local command=$1 name value expect='' seen=' '
  MEMBERS='' TTL='' REST=()
  shift
  while (($# > 0)); do
    # Ids and names of sources may begin with dashes. No stream and no JSON does.
    if [[ $1 != --* || (${#REST[@]} -gt 0 && ${#REST[@]} -lt 3 && $command == publish) ]]; then
      REST+=("$1")
      shift
      continue
    fi
    name=${1%%=*} value=
    [[ $name =~ ^--[a-z-]+$ && $OPTIONS == *" $name "* ]] || refuse "$command: unknown argument $1; see flux.sh $command --help"
    [[ $seen != *" $name "* ]] || refuse "$command: $name is given twice"
    seen+="$name "
    if [[ $1 == --*=* ]]; then
      [[ $name != --if-absent ]] || refuse "$command: $name takes no value"
      value=${1#*=}
    elif [[ $name != --if-absent ]]; then
      (($# > 1)) || refuse "$command: $name needs a value; see flux.sh $command --help"
      shift
      value=$1
    fi
    shift
    case $name in
      --if*)
        [[ -z $expect ]] || refuse "$command: --if-absent, --if-version and --if exclude each other"
        case $name in
          --if-absent) expect='"absent":true' ;;
          --if-version)
            [[ $value =~ ^[1-9][0-9]{0,18}$ ]] || refuse "$command: --if-version is not a version: $value"
            expect="\"version\":$value"
            ;;
          --if)
            json_string "$value"
            expect="\"filter\":$STRING"
            ;;
        esac
        MEMBERS+=",\"expect\":{$expect}"
        ;;
      --event-id)
        expect_text 'the event id' "$value"
        json_string "$value"
        MEMBERS+=",\"eventId\":$STRING"
        ;;
      --ttl)
        [[ $value =~ ^(null|(0|[1-9][0-9]{0,8})(\.[0-9]+)?)$ ]] || refuse "$command: --ttl is not a number of seconds: $value"
        TTL=",\"ttl\":$value"
        ;;
    esac
  done
}

publish() {
  local stream source entity_id properties=
  OPTIONS=' --if-absent --if-version --if --event-id --ttl '
  read_conditions publish "$@"
  expect_count publish ${#REST[@]} "$([[ -n $TTL ]] && echo 3 || echo 4)" 4
  expect_text 'the entity id' "${REST[2]}"
  if ((${#REST[@]} > 3)); then
    json_argument "${REST[3]}"
    expect_json 'properties' object "$JSON"
    properties=",\"properties\":$JSON"
  fi
  json_string "${REST[0]}"
  stream=$STRING
  json_string "${REST[1]}"
  source=$STRING
  json_string "${REST[2]}"
  entity_id=$STRING
  local event="{\"stream\":$stream,\"source\":$source$MEMBERS,\"payload\":{\"entity_id\":$entity_id$properties$TTL}}"
  # The properties were checked; the other arguments may still hold text that is not UTF-8.
  expect_json 'the event' object "$event"
  send namespace POST /api/events "$event"
}

increment() {
  local entity_id amount results
  # Ids and properties may begin with dashes, and an amount does with one if it is negative.
  (($# > 1)) || refuse "increment: wrong number of arguments ($#); see flux.sh increment --help"
  expect_text 'the entity id' "$1"
  json_string "$1"
  entity_id=$STRING
  json_string "$2"
  OPTIONS=' --event-id '
  local property=$STRING
  shift 2
  read_conditions increment "$@"
  expect_count increment $((${#REST[@]} + 2)) 2 3
  amount=${REST[0]-1}
  expect_json 'the amount' number "$amount"
  local event="{\"stream\":\"increment\",\"source\":\"flux.sh\"$MEMBERS,\"payload\":{\"entity_id\":$entity_id,\"increment\":{$property:$amount}}}"
  expect_json 'the event' object "$event"
  ask namespace POST /api/events "$event"
  # {"name":result}: the name may hold anything, the number no colon.
  results=$(raw_member_of "$ANSWER" properties)
  results=${results##*:}
  if [[ -n $results ]]; then
    printf '%s\n' "${results%\}}"
  else
    printf 'flux.sh: it is added; the answer has no result\n' >&2
  fi
}

get() {
  local path
  (($# > 0)) || refuse 'get: which entity? see flux.sh get --help'
  expect_text 'the entity id' "$1"
  percent_encode "$1" /
  path=/api/state/entities/$ENCODED
  shift
  QUERY=
  read_options get ' --at --fields ' "$@"
  send either GET "$path${QUERY:+?}$QUERY"
}

list() {
  QUERY=
  read_options list ' --prefix --namespace --filter --limit --after --at --fields ' "$@"
  send either GET "/api/state/entities${QUERY:+?}$QUERY"
  announce_next_page --after
}

# read_id <arguments…>: sets ID to the entity id that comes first, if there is one, and USED to the
# number of arguments that it takes: 2 with `--` before it.
read_id() {
  ID='' USED=0
  if (($# > 1)) && [[ $1 == -- ]]; then
    ID=$2 USED=2
  elif (($# > 0)) && [[ $1 != --* ]]; then
    ID=$1 USED=1
  fi
  ((USED == 0)) || expect_text 'the entity id' "$ID"
}

history_of() {
  QUERY=
  read_id "$@"
  shift "$USED"
  if ((USED > 0)); then
    percent_encode "$ID" ''
    QUERY=entity=$ENCODED
  fi
  read_options history ' --namespace --since --until --limit --before ' "$@"
  [[ $QUERY =~ (^|&)(entity|namespace)= ]] || refuse 'history: of which entity or --namespace? see flux.sh history --help'
  send either GET "/api/events?$QUERY"
  announce_next_page --before
}

watch() {
  local pattern='*'
  INTERVAL='' QUERY=''
  read_id "$@"
  shift "$USED"
  ((USED == 0)) || pattern=$ID
  read_options watch ' --interval --filter --fields --mode --since ' "$@"
  command -v sleep >/dev/null 2>&1 || refuse 'sleep is not installed; flux.sh watch needs it'
  [[ $QUERY =~ (^|&)(mode|since)= ]] || QUERY+='&snapshot=true'
  if [[ -n $INTERVAL ]]; then
    [[ $INTERVAL =~ ^[0-9]{1,2}(\.[0-9]{1,3})?$ ]] || refuse "watch: --interval is not a number of seconds: $INTERVAL"
    local rate
    rate=$(awk "BEGIN { if ($INTERVAL >= 0.01 && $INTERVAL <= 10) printf \"%.3f\", 1 / $INTERVAL }")
    [[ -n $rate ]] || refuse "watch: --interval is from 0.01 to 10 seconds, not $INTERVAL"
    QUERY+="&max_hz=$rate"
  fi
  percent_encode "$pattern" ''
  prepare either
  follow "/api/stream?entity_id=$ENCODED&${QUERY#&}"
}

# follow <path>: prints the messages of a stream, one a line. If the stream breaks, it goes on from
# the last place. Never returns.
follow() {
  local begun=false complained=false
  AWK_BY_LINES=(awk)
  # mawk reads a whole buffer before it looks at the first line, unless it is told otherwise.
  [[ $(awk -W version 2>&1 </dev/null || true) != mawk* ]] || AWK_BY_LINES+=(-W interactive)
  : >"$WORK/place"
  while true; do
    if stream "$1"; then
      begun=true complained=false
    elif ! $begun || [[ $STATUS == 4?? && $STATUS != 429 ]]; then
      fail "$WHY"
    elif ! $complained; then
      printf 'flux.sh: %s; asking again every second\n' "$WHY" >&2
      complained=true
    fi
    sleep 1
  done
}

# stream <path>: prints the messages of one answer until it ends. Fails and sets STATUS and WHY if
# there is none, or the stream can't go on.
stream() {
  local place code
  local -a options=(--silent --show-error --no-buffer --globoff --path-as-is --connect-timeout 5 --keepalive-time 20
    --dump-header "$WORK/head")
  place=$(<"$WORK/place")
  [[ -z $place ]] || options+=(--header "Last-Event-ID: $place")
  [[ -z ${FLUX_CA_FILE-} ]] || options+=(--cacert "$FLUX_CA_FILE")
  : >"$ANSWER"
  : >"$WORK/head"
  # If nobody reads the output any more, awk ends, and that is the end.
  {
    code=0
    curl -q "${options[@]}" --config <(authorization "$TOKEN") --url "$URL$1" 2>"$WORK/reason" || code=$?
    printf '%s\n' "$code" >"$WORK/code"
  } | "${AWK_BY_LINES[@]}" -v answer="$ANSWER" -v place="$WORK/place" "$STREAM_MESSAGES" || exit 1
  STATUS=
  read -r _ STATUS _ <"$WORK/head" || true
  if [[ -z $STATUS ]]; then
    no_answer
    return 1
  fi
  if [[ $STATUS != 200 ]]; then
    refusal
    return 1
  fi
  # A client that is too slow is sent away and comes again.
  if [[ -s $ANSWER && $(member_of "$ANSWER" code) != slow_reader ]]; then
    STATUS=400
    WHY=$(member_of "$ANSWER" error)
    WHY=${WHY//[[:cntrl:]]/?}
    return 1
  fi
}

batch() {
  local atomic=
  if (($# == 2)) && [[ $1 == --atomic ]]; then
    set -- "$2" "$1"
  fi
  if (($# == 2)) && [[ $2 == --atomic ]]; then
    atomic='"atomic":true,'
    set -- "$1"
  fi
  expect_count batch $# 1 1
  json_argument "$1"
  expect_json 'the batch' array "$JSON"
  send namespace POST /api/events/batch "{$atomic\"events\":$JSON}"
  report_failed_items
}

delete() {
  expect_count delete $# 1 1
  expect_text 'the entity id' "$1"
  percent_encode "$1" /
  send either DELETE "/api/state/entities/$ENCODED"
}

batch_delete() {
  expect_count batch-delete $# 1 1
  json_argument "$1"
  expect_json 'the filter' object "$JSON"
  send either POST /api/state/entities/delete "$JSON"
  report_failed_items
}

admin_config() {
  expect_count admin-config $# 0 1
  if (($# == 0)); then
    send operator GET /api/admin/config
    return
  fi
  json_argument "$1"
  expect_json 'the configuration' object "$JSON"
  send operator PUT /api/admin/config "$JSON"
}

# on_namespace <command> <whose token> <method> <what follows the name> <arguments…>
on_namespace() {
  expect_count "namespace $1" $(($# - 4)) 1 1
  expect_text 'the name' "$5"
  percent_encode "$5" ''
  send "$2" "$3" "/api/namespaces/$ENCODED$4"
}

# set_visibility <public or private> <arguments…>
set_visibility() {
  expect_count "namespace $1" $(($# - 1)) 1 1
  expect_text 'the name' "$2"
  percent_encode "$2" ''
  send either PATCH "/api/namespaces/$ENCODED" "{\"read\":\"$1\"}"
}

namespace() {
  (($# > 0)) || refuse 'namespace: create, show, list, private, public, rotate or delete? see flux.sh namespace --help'
  local command=$1 purge=
  shift
  case $command in
    create)
      expect_count 'namespace create' $# 0 1
      if (($# == 0)); then
        send operator POST /api/namespaces '{}'
        return
      fi
      json_string "$1"
      expect_json 'the name' '' "$STRING"
      send operator POST /api/namespaces "{\"name\":$STRING}"
      ;;
    show) on_namespace show either GET '' "$@" ;;
    private | public) set_visibility "$command" "$@" ;;
    list)
      expect_count 'namespace list' $# 0 0
      send operator GET /api/namespaces
      ;;
    rotate) on_namespace rotate either POST /token "$@" ;;
    delete)
      if (($# == 2)) && [[ $2 == --purge ]]; then
        purge='?purge=true'
        set -- "$1"
      fi
      on_namespace delete operator DELETE "$purge" "$@"
      ;;
    *) refuse "namespace: unknown command $command; see flux.sh namespace --help" ;;
  esac
}

# Makes a token, by the options behind the namespace.
create_token() {
  local members='' scopes=write scope list=''
  (($# > 0)) || refuse 'token create: of which namespace? see flux.sh token create --help'
  expect_text 'the namespace' "$1"
  percent_encode "$1" ''
  shift
  while (($# > 0)); do
    (($# > 1)) || refuse "token create: $1 needs a value; see flux.sh token create --help"
    case $1 in
      --scopes) scopes=$2 ;;
      --label | --prefix)
        json_string "$2"
        expect_json "${1#--}" '' "$STRING"
        members+=",\"${1#--}\":$STRING"
        ;;
      --expires)
        [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || refuse "token create: --expires is a number of seconds, not $2"
        members+=",\"expires_in_seconds\":$2"
        ;;
      *) refuse "token create: unknown option $1; see flux.sh token create --help" ;;
    esac
    shift 2
  done
  while [[ -n $scopes ]]; do
    scope=${scopes%%,*}
    [[ $scope =~ ^(read|write|delete|manage)$ ]] || refuse "token create: unknown scope $scope; see flux.sh token create --help"
    list+="${list:+,}\"$scope\""
    scopes=${scopes#"$scope"}
    scopes=${scopes#,}
  done
  [[ -n $list ]] || refuse 'token create: --scopes names none; see flux.sh token create --help'
  send either POST "/api/namespaces/$ENCODED/tokens" "{\"scopes\":[$list]$members}"
}

token() {
  (($# > 0)) || refuse 'token: create, list or revoke? see flux.sh token --help'
  local command=$1 name
  shift
  case $command in
    create) create_token "$@" ;;
    list)
      expect_count 'token list' $# 1 1
      expect_text 'the namespace' "$1"
      percent_encode "$1" ''
      send either GET "/api/namespaces/$ENCODED/tokens"
      ;;
    revoke)
      expect_count 'token revoke' $# 2 2
      expect_text 'the namespace' "$1"
      expect_text 'the id' "$2"
      percent_encode "$1" ''
      name=$ENCODED
      percent_encode "$2" ''
      send either DELETE "/api/namespaces/$name/tokens/$ENCODED"
      ;;
    *) refuse "token: unknown command $command; see flux.sh token --help" ;;
  esac
}

# on_connector <command> <method> <what follows the name> <arguments…>
on_connector() {
  expect_count "connectors $1" $(($# - 3)) 1 1
  expect_text 'the name' "$4"
  percent_encode "$4" ''
  send either "$2" "/api/connectors/$ENCODED$3"
}

# Reads the credential of a connector, without showing it, and stores it.
store_connector_token() {
  local token=${FLUX_CONNECTOR_TOKEN-}
  expect_count 'connectors token' $# 1 1
  expect_text 'the name' "$1"
  if [[ -z $token && -t 0 ]]; then
    printf 'token of %s: ' "$1" >&2
    IFS= read -rs token || true
    printf '\n' >&2
  elif [[ -z $token ]] && IFS= read -r -d '' token; then
    refuse 'standard input holds a NUL byte'
  fi
  # A file and a pipe end with a line break, which is no part of it.
  token=${token%$'\n'}
  token=${token%$'\r'}
  expect_text 'the token (from FLUX_CONNECTOR_TOKEN or standard input)' "$token"
  json_string "$token"
  expect_json 'the token' '' "$STRING"
  percent_encode "$1" ''
  send either POST "/api/connectors/$ENCODED/token" "{\"token\":$STRING}"
}

connectors() {
  if (($# == 0)); then
    send either GET /api/connectors
    return
  fi
  local command=$1
  shift
  case $command in
    show) on_connector show GET '' "$@" ;;
    add)
      expect_count 'connectors add' $# 1 1
      json_argument "$1"
      expect_json 'the definition' object "$JSON"
      send either POST /api/connectors "$JSON"
      ;;
    remove) on_connector remove DELETE '' "$@" ;;
    token)
      if (($# == 2)) && [[ $2 == --remove ]]; then
        on_connector token DELETE /token "$1"
      else
        store_connector_token "$@"
      fi
      ;;
    *) refuse "connectors: unknown command $command; see flux.sh connectors --help" ;;
  esac
}

health() {
  expect_count health $# 0 0
  send namespace GET /health
}

# asks_for_help <arguments…>: sets HELP to the command that `<command> [<subcommand>] --help` asks
# about.
asks_for_help() {
  HELP=$1
  [[ ${2-} != --help && ${2-} != -h ]] || return 0
  HELP="$1 ${2-}"
  [[ $1 == connectors || $1 == namespace || $1 == token ]] && [[ ${3-} == --help || ${3-} == -h ]]
}

main() {
  (($# > 0)) || {
    printf '%s\n' "$USAGE" >&2
    exit 2
  }
  local command=$1
  case $command in
    help | --help | -h)
      shift
      if (($# > 0)); then
        explain "$*"
      else
        printf '%s\n' "$USAGE"
      fi
      return
      ;;
  esac
  if asks_for_help "$@"; then
    explain "$HELP"
    return
  fi
  shift
  expect_tools
  case $command in
    health | publish | increment | get | list | watch | delete | batch | connectors | namespace | token) "$command" "$@" ;;
    history) history_of "$@" ;;
    batch-delete) batch_delete "$@" ;;
    admin-config) admin_config "$@" ;;
    *) refuse "unknown command $command; see flux.sh help" ;;
  esac
}

main "$@"
