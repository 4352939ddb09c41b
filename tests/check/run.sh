#!/usr/bin/env bash
# Every check of the source that is no test; `make check` calls it, after gcc compiled everything
# with the Makefile's warnings as errors. Last line: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${SLDMKV_BUILD:-$PWD/build}
venv=$build/venv-lint/bin
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

check() { # NAME COMMAND…: silent when it succeeds
    if "${@:2}" >"$log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$1"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$1"
        sed 's/^/    /' "$log" | head -n 100
    fi
}

sources() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u; }

# Another version formats some constructs differently, so only this one decides.
format() {
    local f rc=0
    for f in $(sources '*.c' '*.h'); do
        clang-format-14 --dry-run --Werror "$f" 2>/dev/null || {
            echo "$f: not in the committed style (make format)"
            rc=1
        }
    done
    return "$rc"
}

clang_warnings() {
    sources 'src/*.c' 'utils/*.c' 'tests/*.c' |
        xargs -r -P 2 -n 8 clang-14 -fsyntax-only -std=gnu11 -D_GNU_SOURCE= -Isrc \
            -DSLDMKV_FAIL -DSLDMKV_DEBUG -Wall -Wextra -Werror
}

# The connector's settings are in its pyproject.toml.
python_types() {
    (cd vllm_connector && "$venv/mypy" --cache-dir "$build/mypy" --no-error-summary)
}

python_style() {
    "$venv/ruff" check --quiet --cache-dir "$build/ruff" vllm_connector
}

man_pages() { # man itself ends with 0 whatever it warned of
    local page warnings
    for page in utils/*.1; do
        warnings=$(MANWIDTH=90 man --warnings=w -l "$page" 2>&1 >/dev/null)
        [ -z "$warnings" ] || {
            printf '%s: %s\n' "$page" "$warnings"
            return 1
        }
    done
}

shell_syntax() {
    local f
    for f in $(sources '*.sh' .ci/run); do
        bash -n "$f" || return 1
    done
}

check 'compiles without a warning (clang-14)' clang_warnings
check 'format (clang-format-14)' format
check 'include direction, header owners' python3 tests/check/layers.py
check 'sizes' python3 tests/check/sizes.py
check 'licence lines, contracts, guards' python3 tests/check/headers.py
check 'unfinished work, network addresses' python3 tests/check/words.py
check 'types of the Python packages (mypy)' python_types
check 'style of the Python packages (ruff)' python_style
check 'man pages' man_pages
check 'shell scripts parse' shell_syntax
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
