#!/usr/bin/env bash
# Installs the Debian packages of the named groups of deps/packages.txt that are missing.
#   deps/install.sh [--check] GROUP…        groups: build test check fuzz
#   --check   install nothing: name what is missing, status 1 if something is
#
# When nothing is missing it only asks dpkg (0.05 s) and needs neither root nor a network.
# libraft older than the version in packages.txt is never used. Where the distribution's own is
# older, Debian 12 takes it from the backports suite of the mirror the machine already uses
# (deps/backports.sh); elsewhere this stops and says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
os_release=${SLDMKV_OS_RELEASE:-/etc/os-release}
apt_etc=${SLDMKV_APT_ETC:-/etc/apt}

say() { printf 'deps: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

wanted() { # "package version" lines of the groups given
    awk -v groups=" $* " '!/^#/ && NF && index(groups, " " $1 " ") { print $2, $3 }' \
        "$here/packages.txt"
}

missing() { # those of them that are absent or too old
    local name min have
    declare -A installed
    while read -r name _ have; do
        installed[$name]=$have
    done < <(wanted "$@" | cut -d' ' -f1 |
        xargs dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' 2>/dev/null |
        grep ' installed ')
    while read -r name min; do
        have=${installed[$name]:-}
        if [ -z "$have" ] && [ "$min" = - ] && provided "$name"; then
            continue
        elif [ -z "$have" ] || older "$have" "$min"; then
            printf '%s\n' "$name"
        fi
    done < <(wanted "$@")
}

provided() { # NAME: by another package, as a nodejs from elsewhere provides npm
    dpkg-query -W -f '${db:Status-Status} ${Provides},\n' |
        grep -E "^installed (.*, )?$1( \([^)]*\))?," >/dev/null # to its end: pipefail
}

older() { # VERSION MINIMUM: true when a minimum is set and not reached
    [ "$2" != - ] && dpkg --compare-versions "$1" lt "$2"
}

candidate() {
    LC_ALL=C apt-cache policy "$1" | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

without_candidate() { # those of the names that apt cannot install
    local name
    for name in "$@"; do
        # libraft-dev has a step of its own.
        [ "$name" = libraft-dev ] || [ -n "$(candidate "$name")" ] || printf '%s\n' "$name"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "not root and no sudo here; as root run: $here/install.sh ${groups[*]}"
    fi
}

# One line per step reaches the terminal; the last lines of everything when it fails.
apt_get() {
    local log rc=0
    log=$(mktemp)
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" 2>&1 |
        tee "$log" | sed -nu 's/^\(Get:\|Setting up \)/  &/p' >&2 || rc=$?
    [ "$rc" -eq 0 ] || tail -n 15 "$log" >&2
    rm -f "$log"
    return "$rc"
}

# Ends with a libraft candidate that is new enough, or does not return.
find_raft() {
    local min have id VERSION_ID VERSION_CODENAME stanza
    min=$(wanted build | awk '$1 == "libraft-dev" { print $2 }')
    have=$(candidate libraft-dev)
    if [ -n "$have" ] && ! older "$have" "$min"; then
        return
    fi
    id=$(. "$os_release" && printf '%s' "${ID:-}")
    VERSION_ID=$(. "$os_release" && printf '%s' "${VERSION_ID:-}")
    VERSION_CODENAME=$(. "$os_release" && printf '%s' "${VERSION_CODENAME:-}")
    if [ -z "$have" ]; then # no package lists yet, or none with it
        apt_get update || die "apt-get update failed (above)"
        have=$(candidate libraft-dev)
        [ -z "$have" ] || older "$have" "$min" || return 0
    fi
    say "libraft-dev here is ${have:-absent}; $min or newer is needed: older ones can lose" \
        "acknowledged entries after a change of leader, starve commits, crash on a full disk."
    if [ "$id" != debian ] || [ "$VERSION_ID" != 12 ]; then
        die "supported are Debian 12 (from backports), Debian 13, and a Ubuntu whose" \
            "libraft-dev is $min or newer (24.04 has 0.22.0: not). This is $id $VERSION_ID." \
            "With a libraft of your own: make SKIP_DEPS=1."
    fi
    stanza=$("$here/backports.sh" "$VERSION_CODENAME") ||
        die "add the suite $VERSION_CODENAME-backports to apt by hand, then run this again"
    if [ -n "$stanza" ]; then
        say "adding $VERSION_CODENAME-backports of this machine's mirror, for libraft only:" \
            "$apt_etc/sources.list.d/sldmkv-backports.sources"
        printf '%s\n' "$stanza" |
            as_root tee "$apt_etc/sources.list.d/sldmkv-backports.sources" >/dev/null
    fi
    # Without the first part the older one of the base suite would win; the second keeps everything
    # else where it was (100 is what backports have anyway).
    printf 'Package: libraft0 libraft-dev\nPin: release n=%s\nPin-Priority: 500\n' \
        "$VERSION_CODENAME-backports" | {
        cat
        [ -z "$stanza" ] || printf '\nPackage: *\nPin: release n=%s\nPin-Priority: 100\n' \
            "$VERSION_CODENAME-backports"
    } | as_root tee "$apt_etc/preferences.d/sldmkv-backports" >/dev/null
    apt_get update || die "apt-get update failed (above)"
    have=$(candidate libraft-dev)
    if [ -z "$have" ] || older "$have" "$min"; then
        die "$VERSION_CODENAME-backports of this mirror has libraft-dev ${have:-(none)}, not $min"
    fi
}

install_missing() {
    local name none
    none=$(without_candidate "$@")
    if [ -n "$none" ]; then # a fresh image has no package lists
        apt_get update || die "apt-get update failed (above)"
        none=$(without_candidate "$@")
        [ -z "$none" ] || die "this distribution has no package" $none
    fi
    for name in "$@"; do
        [ "$name" != libraft-dev ] || find_raft
    done
    say "installing: $*"
    if ! apt_get install --no-install-recommends "$@"; then
        say "once more with fresh package lists"
        apt_get update && apt_get install --no-install-recommends "$@" ||
            die "apt-get could not install: $*"
    fi
}

check_only=
[ "${1:-}" != --check ] || { check_only=1; shift; }
groups=("$@")
[ $# -gt 0 ] || die "usage: deps/install.sh [--check] GROUP…  (build test check fuzz)"
for g in "$@"; do
    [ -n "$(wanted "$g")" ] || die "no group \"$g\" in deps/packages.txt"
done
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    die "no dpkg and apt here; install what deps/packages.txt names, then make SKIP_DEPS=1"

mapfile -t absent < <(missing "$@")
[ "${#absent[@]}" -gt 0 ] || exit 0
if [ -n "$check_only" ]; then
    printf '%s\n' "${absent[@]}"
    exit 1
fi
install_missing "${absent[@]}"
mapfile -t absent < <(missing "$@")
[ "${#absent[@]}" -eq 0 ] || die "still missing: ${absent[*]}"
