# shellcheck shell=bash
# Sourced by build.sh and fetch.sh: two compilers for wasm32-wasi.
#
# Debian's clang 14 (apt, as root) builds our own C programs. Zig's clang 22 (PyPI, no root) builds what needs exceptions, which
# clang 14 cannot: C++ with `throw`, and C with setjmp; and other people's programs.

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

# Puts zig (pinned by hash) under guests/.cache/zig; sets ZIG. Fails, having said why, when it cannot.
ensure_zig() {
  local home=$GUESTS_CACHE/zig wanted
  wanted=$(sha256sum "$GUESTS_CACHE/../sources/requirements.txt" | cut -d' ' -f1)
  ZIG=$home/ziglang/zig
  if [ ! -x "$ZIG" ] || [ "$(cat "$home/wanted" 2>/dev/null)" != "$wanted" ]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
      echo "zig needs python3 with pip" >&2
      return 1
    fi
    echo "installing zig (a 100 MB wheel) under guests/.cache" >&2
    rm -rf "$home"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes --only-binary :all: \
      --target "$home" -r "$GUESTS_CACHE/../sources/requirements.txt" >&2 || {
      echo "zig could not be installed" >&2
      rm -rf "$home"
      return 1
    }
    echo "$wanted" >"$home/wanted"
  fi
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
