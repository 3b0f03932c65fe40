#!/usr/bin/env bash
# A command line for a Flux server: bash, curl and awk, nothing else. `flux.sh help` lists the commands.
#
# Whatever an argument holds arrives as it was given: strings are escaped as JSON, ids and filters are
# percent-encoded byte by byte. JSON arguments are checked before anything is sent, always by the checker below,
# so that a mistake is reported alike on every machine, with or without jq or python. Tokens go to curl through a
# file descriptor, because every user of the machine can read a command line.
#
# On a terminal the answer is laid out by jq where that is installed; in a pipe it is the server's bytes, since jq
# may rewrite numbers that Flux keeps digit for digit.
#
# Exit codes: 0 done; 1 the server refused (wholly, or an item of a batch) or cannot be reached; 2 wrong usage,
# nothing was sent.
# shellcheck disable=SC1003 # '\\' is a backslash, not an attempt to quote a quote
set -euo pipefail
export LC_ALL=C # bytes, not characters: lengths, ranges and encodings below count on it

readonly USAGE='usage: flux.sh <command> [arguments]

  health                                             the server'\''s health
  publish <stream> <source> <entity_id> <properties> publish an event; properties are a JSON object
  get <entity_id>                                    the state of an entity
  list [--prefix P] [--namespace N]                  entities, all or those that match
  delete <entity_id>                                 delete an entity
  batch <events>                                     publish a JSON array of events
  batch-delete <filter>                              delete by {"namespace": N}, {"prefix": P} or {"entity_ids": [...]}
  connectors                                         connectors and their status
  connectors show <name>                             one connector, with its last poll and error
  connectors add <definition>                        define an HTTP source by a JSON object
  connectors remove <name>                           remove a defined source and its token
  connectors token <name> [--remove]                 store a token, read from FLUX_CONNECTOR_TOKEN or standard input
                                                     and never from the command line; or remove it
  admin-config [<changes>]                           show the configuration, or change it by a JSON object
  namespace create [<name>]                          register a namespace; prints its token, this once
  namespace show <name>                              a namespace and how many entities it holds
  namespace list                                     all namespaces
  namespace rotate <name>                            give it another token; prints it, and the old one is dead
  namespace delete <name> [--purge]                  delete it, with --purge its entities too
  help                                               this text

A JSON argument of - is read from standard input.

environment:
  FLUX_URL          the server (default http://localhost:3000)
  FLUX_TOKEN        a namespace token, where the server asks for one
  FLUX_ADMIN_TOKEN  the operator'\''s token, for admin-config, for namespaces, for deleting where FLUX_TOKEN is not set, and
                    to see all connectors where FLUX_TOKEN is not set
  FLUX_CONNECTOR_TOKEN  the token that `connectors token` stores'

fail() {
  printf 'flux.sh: %s\n' "$1" >&2
  exit 1
}

refuse() {
  printf 'flux.sh: %s\n' "$1" >&2
  exit 2
}

# expect_count <command> <given> <least> <most>
expect_count() {
  if (($2 < $3 || $2 > $4)); then
    refuse "$1: wrong number of arguments ($2); see flux.sh help"
  fi
}

expect_text() {
  [[ -n $2 ]] || refuse "$1 must not be empty"
}

# Reads JSON (RFC 8259) from standard input. Without `member`: exits 0 where it is one value of type `want`, else
# prints why not and exits 1. With `member`: prints that member of the outermost object, strings decoded.
# One pass, character by character; no token but white space spans lines, so lines are read one at a time.
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
  else bad(text == "" ? "an unexpected character" : "an unexpected " text)
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
  if (want != "" && top != want) { print "it must be an " want ", not " (top == "null" ? top : (top ~ /^[ao]/ ? "an " : "a ") top); exit 1 }
}'

# expect_json <name> <wanted type or empty> <text>
expect_json() {
  local why
  if ! why=$(printf '%s' "$3" | awk -v want="$2" -v member= "$JSON_READER"); then
    refuse "bad JSON in $1: $why"
  fi
}

# member_of <file> <name>: a member of the JSON object in the file, empty where it has none.
member_of() {
  awk -v want= -v member="$2" "$JSON_READER" <"$1" 2>/dev/null || true
}

# json_argument <given>: sets JSON to the argument, or to standard input where it is `-`.
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
      # Bytes from 0x80 on come out negative from some versions of bash.
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

# send <token> <method> <path> [<body>]: prints the answer, or what went wrong.
send() {
  local token=$1 method=$2 path=$3 status why
  local url=${FLUX_URL:-http://localhost:3000}
  [[ $url =~ ^https?://[^[:space:][:cntrl:]]+$ ]] || refuse "FLUX_URL is not an http or https address: $url"
  [[ $token != *[[:cntrl:]]* ]] || refuse 'the token holds a control character'
  while [[ $url == */ ]]; do url=${url%/}; done
  # Answers may be larger than memory: a file takes them. Global, so that the trap still sees it.
  WORK=$(mktemp -d) || fail 'no temporary directory could be made'
  trap 'rm -rf -- "$WORK"' EXIT
  ANSWER=$WORK/answer
  : >"$ANSWER"
  local -a options=(--silent --show-error --globoff --path-as-is --connect-timeout 5 --speed-time 60 --speed-limit 1
    --output "$ANSWER" --dump-header "$WORK/head" --write-out '%{http_code}' --request "$method")
  if (($# > 3)); then
    options+=(--header 'Content-Type: application/json' --data-binary @-)
  fi
  # `-q` leaves ~/.curlrc out of it. The last line of standard error is curl's own reason.
  if ! status=$(printf '%s' "${4-}" | curl -q "${options[@]}" --config <(authorization "$token") --url "$url$path" 2>"$WORK/reason"); then
    why=$(tail -n 1 "$WORK/reason")
    fail "no answer from $url: ${why#curl: }"
  fi
  report "$status"
}

# advice <status>: what may help.
advice() {
  local seconds
  case $1 in
    401) printf '; set FLUX_TOKEN to the token of the namespace, or FLUX_ADMIN_TOKEN for what only the operator may do' ;;
    403) printf '; the token in the environment does not allow this' ;;
    429)
      seconds=$(awk 'tolower($1) == "retry-after:" && $2 ~ /^[0-9]+/ { print $2 + 0; exit }' "$WORK/head")
      printf '; try again in %s s' "${seconds:-60}"
      ;;
  esac
}

# report <status>: the answer on standard output, or the server's message on standard error.
report() {
  local why
  if [[ $1 != 2?? ]]; then
    why=$(member_of "$ANSWER" error)
    # A message may quote an id: no control character of it reaches the terminal.
    fail "${why//[[:cntrl:]]/?}${why:+ }(HTTP $1)$(advice "$1")"
  fi
  if [[ -t 1 ]] && command -v jq >/dev/null 2>&1; then
    jq . "$ANSWER" 2>/dev/null || cat -- "$ANSWER"
  else
    cat -- "$ANSWER"
    [[ -z $(tail -c 1 "$ANSWER") ]] || echo
  fi
}

# The items of a batch fail one by one under a status of 200: say so, for scripts that look only at the exit code.
report_failed_items() {
  local failed
  failed=$(member_of "$ANSWER" failed)
  [[ -z $failed || $failed == 0 ]] || fail "$failed of the items failed"
}

publish() {
  local stream source entity_id
  expect_count publish $# 4 4
  expect_text 'the entity id' "$3"
  json_argument "$4"
  expect_json 'properties' object "$JSON"
  json_string "$1"
  stream=$STRING
  json_string "$2"
  source=$STRING
  json_string "$3"
  entity_id=$STRING
  local event="{\"stream\":$stream,\"source\":$source,\"payload\":{\"entity_id\":$entity_id,\"properties\":$JSON}}"
  # The properties are fine by now; the other arguments may still hold text that is not UTF-8.
  expect_json 'the event' object "$event"
  send "${FLUX_TOKEN-}" POST /api/events "$event"
}

# one_entity <command> <method> <arguments…>
one_entity() {
  expect_count "$1" $(($# - 2)) 1 1
  expect_text 'the entity id' "$3"
  percent_encode "$3" /
  send "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" "$2" "/api/state/entities/$ENCODED"
}

list() {
  local query='' name seen=' '
  while (($# > 0)); do
    name=$1
    shift
    case $name in
      --prefix=* | --namespace=*)
        set -- "${name#*=}" "$@"
        name=${name%%=*}
        ;;
      --prefix | --namespace) ;;
      *) refuse "list: unknown argument $name; see flux.sh help" ;;
    esac
    (($# > 0)) || refuse "list: $name needs a value"
    [[ $seen != *" $name "* ]] || refuse "list: $name is given twice"
    seen+="$name "
    percent_encode "$1" ''
    query+="${query:+&}${name#--}=$ENCODED"
    shift
  done
  send "${FLUX_TOKEN-}" GET "/api/state/entities${query:+?}$query"
}

batch() {
  expect_count batch $# 1 1
  json_argument "$1"
  expect_json 'the batch' array "$JSON"
  send "${FLUX_TOKEN-}" POST /api/events/batch "{\"events\":$JSON}"
  report_failed_items
}

batch_delete() {
  expect_count batch-delete $# 1 1
  json_argument "$1"
  expect_json 'the filter' object "$JSON"
  send "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" POST /api/state/entities/delete "$JSON"
  report_failed_items
}

admin_config() {
  expect_count admin-config $# 0 1
  if (($# == 0)); then
    send "${FLUX_ADMIN_TOKEN-}" GET /api/admin/config
    return
  fi
  json_argument "$1"
  expect_json 'the configuration' object "$JSON"
  send "${FLUX_ADMIN_TOKEN-}" PUT /api/admin/config "$JSON"
}

# on_namespace <command> <token> <method> <what follows the name> <arguments…>
on_namespace() {
  expect_count "namespace $1" $(($# - 4)) 1 1
  expect_text 'the name' "$5"
  percent_encode "$5" ''
  send "$2" "$3" "/api/namespaces/$ENCODED$4"
}

namespace() {
  (($# > 0)) || refuse 'namespace: create, show, list, rotate or delete? see flux.sh help'
  local command=$1 purge=
  shift
  case $command in
    create)
      expect_count 'namespace create' $# 0 1
      if (($# == 0)); then
        send "${FLUX_ADMIN_TOKEN-}" POST /api/namespaces '{}'
        return
      fi
      json_string "$1"
      expect_json 'the name' '' "$STRING"
      send "${FLUX_ADMIN_TOKEN-}" POST /api/namespaces "{\"name\":$STRING}"
      ;;
    show) on_namespace show '' GET '' "$@" ;;
    list)
      expect_count 'namespace list' $# 0 0
      send "${FLUX_ADMIN_TOKEN-}" GET /api/namespaces
      ;;
    rotate) on_namespace rotate "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" POST /token "$@" ;;
    delete)
      if (($# == 2)) && [[ $2 == --purge ]]; then
        purge='?purge=true'
        set -- "$1"
      fi
      on_namespace delete "${FLUX_ADMIN_TOKEN-}" DELETE "$purge" "$@"
      ;;
    *) refuse "namespace: unknown command $command; see flux.sh help" ;;
  esac
}

# on_connector <command> <method> <what follows the name> <arguments…>
on_connector() {
  expect_count "connectors $1" $(($# - 3)) 1 1
  expect_text 'the name' "$4"
  percent_encode "$4" ''
  send "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" "$2" "/api/connectors/$ENCODED$3"
}

# Reads the token of a connector, without showing it, and stores it.
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
  send "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" POST "/api/connectors/$ENCODED/token" "{\"token\":$STRING}"
}

connectors() {
  if (($# == 0)); then
    send "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" GET /api/connectors
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
      send "${FLUX_TOKEN:-${FLUX_ADMIN_TOKEN-}}" POST /api/connectors "$JSON"
      ;;
    remove) on_connector remove DELETE '' "$@" ;;
    token)
      if (($# == 2)) && [[ $2 == --remove ]]; then
        on_connector token DELETE /token "$1"
      else
        store_connector_token "$@"
      fi
      ;;
    *) refuse "connectors: unknown command $command; see flux.sh help" ;;
  esac
}

main() {
  (($# > 0)) || {
    printf '%s\n' "$USAGE" >&2
    exit 2
  }
  local command=$1
  shift
  case $command in
    health)
      expect_count health $# 0 0
      send "${FLUX_TOKEN-}" GET /health
      ;;
    publish) publish "$@" ;;
    get) one_entity get GET "$@" ;;
    list) list "$@" ;;
    delete) one_entity delete DELETE "$@" ;;
    batch) batch "$@" ;;
    batch-delete) batch_delete "$@" ;;
    connectors) connectors "$@" ;;
    admin-config) admin_config "$@" ;;
    namespace) namespace "$@" ;;
    help | --help | -h) printf '%s\n' "$USAGE" ;;
    *) refuse "unknown command $command; see flux.sh help" ;;
  esac
}

main "$@"
