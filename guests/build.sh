#!/usr/bin/env bash
# Builds guests/src/ into guests/wasm/; the result is the same to the bit wherever the same compilers run. Installs a compiler that is
# missing: Debian's clang 14 and Rust with apt when we are root, zig's clang from PyPI.
#
#   guests/build.sh [c|cxx|rust|all]           build (c unless told), write guests/wasm/
#   guests/build.sh --check [c|cxx|rust|all]   build into a temporary directory and compare with the committed files:
#                                              exit 0 the same, 1 different, 77 a compiler is missing and could not be installed
#
# c: programs in C, by Debian's clang 14. cxx: C++ with exceptions, by zig (100 MB to fetch, and minutes for its libc++ the first time).
# rust: a program in Rust, by Debian's rustc-web (a minute the first time, for its library). The one in Go is built by fetch.sh.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=toolchain.sh
. ./toolchain.sh

# Output name, source and flags besides the common ones.
c_programs() {
  cat <<'LIST'
nbody       src/nbody.c      -O2
sudoku      src/sudoku.c     -O2
sat         src/sat.c        -O2
vm          src/vm.c         -O2
lz          src/lz.c         -O2
extsort     src/extsort.c    -O2
heap        src/heap.c       -O2
sha256      src/sha256.c     -O2
ackermann   src/ackermann.c  -O2 -fno-optimize-sibling-calls
words       src/words.c      -Os
lines       src/lines.c      -O2
chance      src/chance.c     -O2
filer       src/filer.c      -O2
iobench     src/iobench.c    -O2
streams     src/streams.c    -O2
poly        src/poly.c       -O2
mixed       src/mixed.c      -O2
assorted    src/assorted.c   -O2
coders      src/coders.c     -O2
structures  src/structures.c -O2
numbers     src/numbers.c    -O2
machines    src/machines.c   -O2
kernels     src/kernels.c    -O2
kernels_simd src/kernels.c   -O3 -msimd128
LIST
}

build_c() {
  local out=$1 name source flags
  ensure_toolchain || exit 77
  while read -r name source flags; do
    # shellcheck disable=SC2086  # flags are words
    wasi_cc $flags "$source" -o "$out/$name.wasm"
    built+=("$name.wasm")
  done < <(c_programs)
}

build_cxx() {
  ensure_zig || exit 77
  zig_cxx "$1/calculator.wasm" src/calculator.cpp drivers/exception_tag.cpp
  built+=(calculator.wasm)
}

build_rust() {
  ensure_rust || exit 77
  rust_wasm src/rust rust "$1/rust.wasm"
  built+=(rust.wasm)
}

build_into() {
  built=()
  case $2 in
  c) build_c "$1" ;;
  cxx) build_cxx "$1" ;;
  rust) build_rust "$1" ;;
  all) build_c "$1" && build_cxx "$1" && build_rust "$1" ;;
  *) echo "usage: guests/build.sh [--check] [c|cxx|rust|all]" >&2; exit 2 ;;
  esac
}

check() {
  local temp name differs=0
  temp=$(mktemp -d)
  # shellcheck disable=SC2064  # the name is local, so it is expanded now
  trap "rm -rf '$temp'" EXIT
  build_into "$temp" "$1"
  for name in "${built[@]}"; do
    cmp "$temp/$name" "wasm/$name" || differs=1
  done
  if [ $differs = 1 ]; then
    echo "guests/wasm differs from what the sources give: run guests/build.sh $1 and commit" >&2
    exit 1
  fi
  echo "${#built[@]} programs in guests/wasm are what their sources give"
}

if [ "${1:-}" = --check ]; then
  check "${2:-c}"
else
  mkdir -p wasm
  build_into wasm "${1:-c}"
  (cd wasm && ls -l "${built[@]}")
fi
