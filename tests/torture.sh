#!/usr/bin/env bash
# The tests in their long form, hours; `make torture ARGS="…"` calls it.
#   tests/torture.sh [--kills N] [--hits N,N,…] [--calls N] [--minutes M] [--sim-seeds A-B]
#                    [--cuts N] [--only STEP] [-- FUZZ-PROGRAM…]
# --kills      kill -9 under mixed load, a quarter of them without the log (2000)
# --hits       deaths at the n-th passing of every failpoint (1,2,3,5,8,13)
# --calls      I/O faults: at most this n-th call of every function on every kind of file (12)
# --minutes    libFuzzer, each target (60)
# --sim-seeds  seeds of the simulated node (1-2000)
# --cuts       power cuts below the file system (500)
# --only       one of: failpoints faults kills power sim fuzz
# A step whose tests this tree does not have counts as failed only when --only asks for it. A seed
# that failed is printed by its test; SLDMKV_SEED=… repeats it. Last line: "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
build=${SLDMKV_BUILD:-$PWD/build}
kills=2000 hits=1,2,3,5,8,13 calls=12 minutes=60 seeds=1-2000 cuts=500 only=
while [ $# -gt 0 ]; do
    case $1 in
        --kills) kills=$2 ;;
        --hits) hits=$2 ;;
        --calls) calls=$2 ;;
        --minutes) minutes=$2 ;;
        --sim-seeds) seeds=$2 ;;
        --cuts) cuts=$2 ;;
        --only) only=$2 ;;
        --) shift && break ;;
        *) echo "torture.sh: unknown argument $1" >&2 && exit 2 ;;
    esac
    shift 2 || exit 2
done

export TMPDIR=$build/tmp PATH=$build/bin:$PATH PYTHONDONTWRITEBYTECODE=1
mkdir -p "$TMPDIR"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

count() { # WORD: the number before WORD in the last line that has one
    grep -oE "[0-9]+ $1" "$log" | tail -n 1 | grep -oE '^[0-9]+' || echo 0
}

step() { # NAME WHAT COMMAND…: runs it, shows what it says, adds what it counted
    local start=$SECONDS rc ok bad
    [ -z "$only" ] || [ "$only" = "$1" ] || return 0
    printf '== %s: %s\n' "$1" "$2"
    "${@:3}" 2>&1 | tee "$log"
    rc=${PIPESTATUS[0]}
    ok=$(count passed)
    bad=$(count failed)
    [ "$rc" -eq 0 ] || [ "$bad" -ne 0 ] || bad=1
    passed=$((passed + ok))
    failed=$((failed + bad))
    printf '== %s: %d passed, %d failed (%d s)\n\n' "$1" "$ok" "$bad" $((SECONDS - start))
}

suite() { # [NAME=VALUE…] FILE: its output as it comes; -s shows the progress a test prints
    env "${@:1:$#-1}" "$build/venv/bin/python" -u -m pytest -v -s --no-header --tb=short \
        -p no:cacheprovider "${@: -1}"
}

simulate() {
    "$build/debug/tests/sim" --seeds "$seeds" -j "$(nproc)" >"$build/tmp/sim.log" 2>&1
    local rc=$?
    grep -v '^ok ' "$build/tmp/sim.log"
    printf '%d passed, %d failed\n' "$(grep -c '^ok ' "$build/tmp/sim.log")" \
        "$(grep -c '^not ok ' "$build/tmp/sim.log")"
    return "$rc"
}

absent() { # STEP WHAT
    [ -z "$only" ] || [ "$only" = "$1" ] || return 0
    printf '== %s: %s\n\n' "$1" "$2"
    [ -z "$only" ] || failed=$((failed + 1))
}

step failpoints "death at passing $hits of every named point" \
    suite SLDMKV_HITS="$hits" tests/crash/test_failpoints.py
step faults "every call on every file, up to the ${calls}th" \
    suite SLDMKV_FAULTS=full SLDMKV_FAULT_CALLS="$calls" tests/fault
step kills "$kills times kill -9" suite SLDMKV_KILLS="$kills" tests/crash/test_kill9.py
step power "$cuts power cuts" suite SLDMKV_CUTS="$cuts" tests/power
if [ -x "$build/debug/tests/sim" ]; then
    step sim "seeds $seeds" simulate
else
    absent sim 'there is no build/debug/tests/sim'
fi
[ $# -eq 0 ] || step fuzz "$minutes minutes each target" tests/fuzz/run.sh $((minutes * 60)) "$@" --
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
