# Sourced, with $root and $build set: the run-time options of every sanitized test process.
# Reports go to files of their own (one a process), so none is lost with a process that was to be
# killed anyway, or with output nobody reads.
SAN_REPORTS=${SAN_REPORTS:-$build/tmp/reports}
mkdir -p "$SAN_REPORTS"

# SIGBUS is left alone: it means that a mapped file became shorter, which tests of damage do on
# purpose; who does not expect it sees how the process ended.
san_common="exitcode=99:log_path=$SAN_REPORTS/report:handle_sigbus=0"
ASAN_OPTIONS="$san_common:detect_leaks=1:detect_stack_use_after_return=1"
ASAN_OPTIONS+=":strict_string_checks=1:allocator_may_return_null=1"
# Freed memory is held back for 16 MiB only: tests measure the server's RSS.
ASAN_OPTIONS+=":quarantine_size_mb=16"
LSAN_OPTIONS="suppressions=$root/tests/lsan.supp:print_suppressions=0"
UBSAN_OPTIONS="$san_common:print_stacktrace=1:halt_on_error=1"
TSAN_OPTIONS="$san_common:second_deadlock_stack=1:die_after_fork=0"
TSAN_OPTIONS+=":suppressions=$root/tests/tsan.supp"
export SAN_REPORTS ASAN_OPTIONS LSAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS

# Prints the reports there are and removes them; true when there was none.
no_reports() {
    local f rc=0
    for f in "$SAN_REPORTS"/report.*; do
        [ -e "$f" ] || continue
        rc=1
        head -n 80 "$f"
        rm -f "$f"
    done
    return "$rc"
}
