#!/bin/bash
# usage: fuzz.sh [SECONDS [SEED]]
#   Reads changed inputs (Kubefiles, Clusterfiles, charts and their templates, documents of images, tars, layers, archives) for SECONDS each, 60 if not said.
#   What makes a reader panic is kept in target/fuzz/; copied to testdata/fuzz/TARGET/, every test run tries it first.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=common.sh
. "$here/common.sh"
[ $# -le 2 ] || { usage "$0" >&2; exit 2; }
cd "$here/.."
export SEALIFT_FUZZ_SECONDS=${1:-60} SEALIFT_FUZZ_SEED=${2:-$RANDOM$RANDOM}
say "seed $SEALIFT_FUZZ_SEED"
# one target after the other: each gets its time
cargo test --locked --test fuzz_inputs -- --nocapture --test-threads=1
