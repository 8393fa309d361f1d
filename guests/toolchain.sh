# Sourced by build.sh and fetch.sh: Debian's clang for wasm32-wasi.

# Whether clang 14, its linker and libraries for wasm32-wasi are here.
have_toolchain() {
  command -v clang-14 >/dev/null && command -v wasm-ld >/dev/null &&
    [ -e /usr/lib/wasm32-wasi/crt1-command.o ] &&
    [ -e "$(clang-14 --target=wasm32-wasi -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a" ]
}

# Installs the toolchain when it is missing; fails, having said why, when it cannot.
ensure_toolchain() {
  have_toolchain && return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no clang for wasm32-wasi: install clang-14 lld wasi-libc libclang-rt-14-dev-wasm32" >&2
    return 1
  fi
  echo "installing clang for wasm32-wasi" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    clang-14 lld-14 lld wasi-libc libclang-rt-14-dev-wasm32; } >/dev/null 2>&1 || true
  have_toolchain || { echo "clang for wasm32-wasi could not be installed" >&2; return 1; }
}

# Compiles and links for wasm32-wasi: what wasmtime has on by default and clang 14 knows, function names kept, debug
# information dropped, paths not in the output. The stack comes first in memory, so an overflow traps.
wasi_cc() {
  clang-14 --target=wasm32-wasi -std=gnu11 -ftls-model=local-exec -g0 -Wall -Wextra -mbulk-memory -msign-ext -mnontrapping-fptoint \
    -mmutable-globals -Wl,--strip-debug -Wl,--stack-first -Wl,-z,stack-size=1048576 "$@"
}
