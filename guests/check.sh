#!/usr/bin/env bash
# Runs the guest programs of runs.tsv and the probes under plain wasmtime and compares with what is expected.
#
#   guests/check.sh [--slow] [--write] [NAME...]   NAME: of runs.tsv, or a probe's file name without .wat
#
#   --slow   the slow runs too          --write  write the results as expected instead of comparing
#
# $WASMTIME names the wasmtime command (default: wasmtime). Exit 0 all as expected, 1 some not, 77 no wasmtime. Programs that
# fetch.sh has not fetched are left out, with a word.
set -uo pipefail
cd "$(dirname "$0")" || exit
WASMTIME=${WASMTIME:-wasmtime}
# With 1, wasmtime takes a native backtrace at every exception that a guest throws: ten times slower for calculator.
export RUST_BACKTRACE=0
LARGE=65536
slow=0 write=0 names=()
for word in "$@"; do
  case $word in
  --slow) slow=1 ;;
  --write) write=1 ;;
  -*) echo "usage: guests/check.sh [--slow] [--write] [NAME...]" >&2; exit 2 ;;
  *) names+=("$word") ;;
  esac
done
"$WASMTIME" --version >/dev/null 2>&1 || { echo "no wasmtime: set WASMTIME to its command" >&2; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
passed=0 failed=0 skipped=0

wanted() {
  local name
  [ ${#names[@]} = 0 ] && return 0
  for name in "${names[@]}"; do [ "$name" = "$1" ] && return 0; done
  return 1
}

# Files below a directory as `sha256sum` prints them, sorted by name.
list_files() { (cd "$1" && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -r -d '\n' sha256sum); }

# verdict NAME ACTUAL EXPECTED: compares two files, or writes the second.
verdict() {
  if [ $write = 1 ]; then
    rm -f "$3" "$3.gz"
    if [ "$(stat -c %s "$2")" -gt $LARGE ]; then gzip -9nc "$2" >"$3.gz"; else cp "$2" "$3"; fi
    return 0
  fi
  if [ -e "$3.gz" ]; then gzip -dc "$3.gz" | cmp - "$2"; else cmp "$3" "$2"; fi
}

run_one() {
  local name=$1 program=$2 stdin=$3 directories=$4 arguments=$5 options=() files='' code started
  case $directories in
  work)
    mkdir -p "$temp/$name"
    files=$temp/$name
    options=(--dir "$files::/work" --dir "$PWD/tasks::/tasks")
    ;;
  tree:*)
    tasks/make_tree.sh "$temp/$name/src" "${directories#tree:}"
    files=$temp/$name/out
    mkdir -p "$files"
    options=(--dir "$temp/$name::/" --env PWD=/)
    ;;
  esac
  [ "$stdin" = - ] && stdin=/dev/null
  started=$(date +%s%N)
  # shellcheck disable=SC2086  # arguments are words
  "$WASMTIME" run "${options[@]}" "$program" $arguments <"$stdin" >"$temp/$name.out" 2>"$temp/$name.err"
  code=$?
  if [ $code != 0 ]; then
    echo "$name: exit code $code: $(tail -3 "$temp/$name.err")"
    return 1
  fi
  echo "$name: $((($(date +%s%N) - started) / 1000000)) ms"
  verdict "$name" "$temp/$name.out" "expected/$name.out" || return 1
  [ -n "$files" ] || return 0
  list_files "$files" >"$temp/$name.files"
  verdict "$name" "$temp/$name.files" "expected/$name.files"
}

run_probe() {
  local name=$1 got expected
  got=$("$WASMTIME" run --invoke run "probes/$name.wat" 2>"$temp/err") || { tail -3 "$temp/err"; return 1; }
  expected=$(sed -n '1s/^;; EXPECT: //p' "probes/$name.wat")
  if [ $write = 1 ]; then sed -i "1s/.*/;; EXPECT: $got/" "probes/$name.wat"; return 0; fi
  [ "$got" = "$expected" ] || { echo "$name: $got instead of $expected"; return 1; }
}

count() {
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi
}

while IFS=$'\t' read -r name program speed stdin directories arguments; do
  case $name in '' | '#'*) continue ;; esac
  wanted "$name" || continue
  if [ "$speed" = slow ] && [ $slow = 0 ] && [ ${#names[@]} = 0 ]; then continue; fi
  if [ ! -e "$program" ]; then
    echo "$name: left out, $program is not there (guests/fetch.sh)"
    skipped=$((skipped + 1))
    continue
  fi
  count run_one "$name" "$program" "$stdin" "$directories" "$arguments"
done <runs.tsv
for probe in probes/*.wat; do
  name=$(basename "$probe" .wat)
  if wanted "$name"; then count run_probe "$name"; fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
