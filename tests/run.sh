#!/usr/bin/env bash
# Runs unit test programs and pytest suites and sums them; `make test` calls it.
#   tests/run.sh [-s] PROGRAM… -- SUITE…
# -s: a sanitizer build. SUITE is a folder for pytest, run with build/venv; folder@x runs it with
# build/venv-x; what it skips is said with the reason. A sanitizer report counts as a failure,
# whatever its process said.
# Last line: "N passed, N failed"; status 1 when something failed.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=${SLDMKV_BUILD:-$root/build}
cd "$root" || exit 1
sanitizer=
[ "${1:-}" = "-s" ] && { sanitizer=-s; shift; }
programs=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    programs+=("$1")
    shift
done
shift

export TMPDIR=$build/tmp PATH=$build/bin:$PATH PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=$root/vllm_connector/src
mkdir -p "$TMPDIR"
SAN_REPORTS=$(mktemp -d)
. tests/sanitizers.sh
log=$(mktemp)
trap 'rm -rf "$log" "$SAN_REPORTS"' EXIT
passed=0 failed=0

count() { # WORD FILE: the number before WORD in the last line that has one
    grep -oE "[0-9]+ $1" "$2" | tail -n 1 | grep -oE '^[0-9]+' || echo 0
}

report() { # NAME PASSED FAILED SINCE [NOTE]
    printf '%-40s %5d passed, %d failed  (%d s)%s\n' "$1" "$2" "$3" $((SECONDS - $4)) "${5:-}"
    passed=$((passed + $2))
    failed=$((failed + $3))
}

run_units() {
    local start=$SECONDS
    tests/run_unit.sh $sanitizer "${programs[@]}" >"$log" 2>&1
    sed '$d' "$log"
    report "C unit tests" "$(count passed "$log")" "$(count failed "$log")" "$start"
}

run_suite() {
    local suite=$1 venv=$build/venv start=$SECONDS ok bad skipped rc
    case $suite in *@*) venv=$build/venv-${suite#*@} ;; esac
    "$venv/bin/python" -m pytest -q -rs --no-header --tb=short -p no:cacheprovider \
        "${suite%@*}" >"$log" 2>&1
    rc=$?
    tail -n 1 "$log" >"$log.sum"
    ok=$(count passed "$log.sum")
    bad=$(($(count failed "$log.sum") + $(count 'errors?' "$log.sum")))
    skipped=$(count skipped "$log.sum")
    [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    no_reports >"$log.reports" || bad=$((bad + 1))
    [ "$bad" -eq 0 ] && [ -z "${V:-}" ] || tail -n 400 "$log"
    head -n 400 "$log.reports"
    rm -f "$log.sum" "$log.reports"
    [ "$skipped" -eq 0 ] && skipped= || skipped="  $skipped skipped"
    report "$suite" "$ok" "$bad" "$start" "$skipped"
    [ -z "$skipped" ] || sed -n 's/^SKIPPED/    skipped/p' "$log"
}

[ "${#programs[@]}" -eq 0 ] || run_units
for suite in "$@"; do
    run_suite "$suite"
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
