#!/usr/bin/env bash
# Runs fuzz targets built with libFuzzer, one after the other; `make fuzz` calls it.
#   tests/fuzz/run.sh SECONDS PROGRAM… -- [OPTION…]      OPTIONs go to libFuzzer
# Each starts from the committed corpus and from what earlier runs found (build/fuzz/corpus). An
# input that ends a target is left in build/fuzz/found; once the cause is fixed it belongs into
# tests/fuzz/corpus. Last line: "N passed, N failed".
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${SLDMKV_BUILD:-$root/build}
cd "$root" || exit 1
seconds=$1
shift
programs=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    programs+=("$1")
    shift
done
shift

# Targets that write files need no disk.
[ -w /dev/shm ] && export TMPDIR=/dev/shm
log=$build/fuzz/log found=$build/fuzz/found
mkdir -p "$log" "$found"
passed=0 failed=0

# -timeout: of one input. ulimit -c: a core file of a sanitizer is huge.
ulimit -c 0
for program in "${programs[@]}"; do
    name=$(basename "$program")
    what=${name#fuzz_}
    kept=$build/fuzz/corpus/$what
    mkdir -p "$kept"
    dict=
    [ ! -e "tests/fuzz/$what.dict" ] || dict=-dict=tests/fuzz/$what.dict
    if "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$found/$what-" $dict "$@" "$kept" "tests/fuzz/corpus/$what" \
        >"$log/$what" 2>&1; then
        passed=$((passed + 1))
        word=ok
    else
        failed=$((failed + 1))
        word=FAILED
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log/$what" | tail -n 1)
    edges=$(grep -oE 'cov: [0-9]+' "$log/$what" | tail -n 1)
    printf '%-7s %-14s %12s inputs  %s\n' "$word" "$name" "${runs:-?}" "$edges"
    [ "$word" = ok ] || grep -vE '^#[0-9]+' "$log/$what" | tail -n 60
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
