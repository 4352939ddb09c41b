#!/usr/bin/env bash
# Runs unit test programs and sums their TAP lines.
#   tests/run_unit.sh [-s] PROGRAM…      -s: a sanitizer build (longer watchdog)
# Several run at once, more than there are cores: they wait for the disk most of the time.
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
at_once=$((2 * $(nproc)))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run_one() { # PROGRAM: into $work its output, the reports of its processes, its status
    local to=$work/${1##*/}
    SAN_REPORTS=$to.reports
    . "$root/tests/sanitizers.sh"
    "$1" >"$to.out" 2>&1 </dev/null
    echo $? >"$to.status"
    no_reports >>"$to.out" || touch "$to.reported"
}

judge() { # PROGRAM
    local to=$work/${1##*/} rc ok bad
    rc=$(cat "$to.status")
    ok=$(grep -c '^ok ' "$to.out")
    bad=$(grep -c '^not ok ' "$to.out")
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
        echo "# $1: exit status $rc" >>"$to.out"
    fi
    [ -e "$to.reported" ] && bad=$((bad + 1))
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        printf 'FAIL %s\n' "$1"
        grep -v '^ok ' "$to.out" | head -n 200
    elif [ -n "${V:-}" ]; then
        printf 'PASS %s\n' "$1"
        cat "$to.out"
    fi
}

for prog in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
        wait -n
    done
    run_one "$prog" &
done
wait
passed=0 failed=0
for prog in "$@"; do
    judge "$prog"
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
