#!/usr/bin/env bash
# All tests: gets the guest programs of other people first (from package registries), then runs everything.
set -euo pipefail
cd "$(dirname "$0")/.."
guests/fetch.sh
cargo test --no-fail-fast "$@"
