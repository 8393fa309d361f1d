#!/usr/bin/env bash
# All tests: gets the guest programs of other people first (from package registries), then runs everything.
# In CI nothing is left out, and CPython computes for a minute instead of some seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${CI:-}" ]; then export PYTHON_SCALE="${PYTHON_SCALE:-200}"; fi
# With backtraces of the host on, every exception of a guest is ten times slower.
export RUST_BACKTRACE=0
guests/fetch.sh python esbuild lua quickjs sqlite go yosys
# An archive that is away for a while must not stop all other tests: those that need these say that they are skipped.
guests/fetch.sh python-tests wasi-tests || echo "python-tests or wasi-tests could not be fetched" >&2
# What tells in which order files become durable.
command -v strace >/dev/null || apt-get install -qq -y strace >&2 || echo "strace could not be installed: what needs it is left out" >&2
# The stores that are services as well: their tests start real servers, which they get themselves.
cargo test --no-fail-fast --all-features "$@"
