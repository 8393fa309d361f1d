#!/usr/bin/env bash
# Builds guests/src/*.c into guests/wasm/*.wasm with Debian's clang 14 and wasi-libc; the result is the same to the bit
# wherever that toolchain runs. Installs the toolchain with apt when it is missing and we are root.
#
#   guests/build.sh           build all, write guests/wasm/
#   guests/build.sh --check   build into a temporary directory and compare with the committed files:
#                             exit 0 the same, 1 different, 77 no toolchain and none could be installed
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=toolchain.sh
. ./toolchain.sh

# name, then the flags that this program has besides the common ones
programs() {
  cat <<'LIST'
nbody       -O2
sudoku      -O2
sat         -O2
vm          -O2
lz          -O2
extsort     -O2
heap        -O2
sha256      -O2
ackermann   -O2 -fno-optimize-sibling-calls
words       -Os
lines       -O2
LIST
}

build_into() {
  local out=$1 name flags source
  while read -r name flags; do
    source=src/${name%%+*}.c
    # shellcheck disable=SC2086  # flags are words
    wasi_cc $flags "$source" -o "$out/$name.wasm"
  done < <(programs)
}

main() {
  ensure_toolchain || exit 77
  case "${1:-}" in
  "")
    mkdir -p wasm
    build_into wasm
    ls -l wasm
    ;;
  --check)
    local temp
    temp=$(mktemp -d)
    trap "rm -rf '$temp'" EXIT
    build_into "$temp"
    if diff -rq "$temp" wasm; then
      echo "guests/wasm is what the sources give"
    else
      echo "guests/wasm differs from what the sources give: run guests/build.sh and commit" >&2
      exit 1
    fi
    ;;
  *)
    echo "usage: guests/build.sh [--check]" >&2
    exit 2
    ;;
  esac
}
main "$@"
