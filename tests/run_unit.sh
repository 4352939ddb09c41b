#!/usr/bin/env bash
# Runs unit test programs and sums their TAP lines.
#   tests/run_unit.sh [-s] PROGRAM…      -s: a sanitizer build (longer watchdog)
# A program that dies, or leaves a sanitizer report, counts as one failure more. The output of
# programs that passed is not shown (V=1 shows it). Last line: "N passed, N failed".
set -u
slow=
[ "${1:-}" = "-s" ] && { slow=1; shift; }
[ $# -gt 0 ] || { echo "run_unit.sh: no test program of that name" >&2; exit 1; }
root=$(cd "$(dirname "$0")/.." && pwd)
build=${SLDMKV_BUILD:-$root/build}
export TMPDIR="${TMPDIR:-$build/tmp}"
mkdir -p "$TMPDIR"
[ -n "$slow" ] && export TEST_SLOW=1
SAN_REPORTS=$(mktemp -d) # of this run alone
. "$root/tests/sanitizers.sh"

passed=0 failed=0
out=$(mktemp)
trap 'rm -rf "$out" "$SAN_REPORTS"' EXIT
for prog in "$@"; do
    "$prog" >"$out" 2>&1 </dev/null
    rc=$?
    ok=$(grep -c '^ok ' "$out")
    bad=$(grep -c '^not ok ' "$out")
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        echo "# $prog: exit status $rc" >>"$out"
    fi
    if ! no_reports >>"$out"; then
        bad=$((bad + 1))
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        printf 'FAIL %s\n' "$prog"
        grep -v '^ok ' "$out" | head -n 200
    elif [ -n "${V:-}" ]; then
        printf 'PASS %s\n' "$prog"
        cat "$out"
    fi
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
