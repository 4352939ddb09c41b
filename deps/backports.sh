#!/usr/bin/env bash
# Prints a deb822 source for CODENAME-backports, made from the source of CODENAME that apt is
# configured with: same URIs, same Signed-By, same options. Prints nothing when the suite is
# configured already; status 1 and a reason when there is nothing to make it from.
#   deps/backports.sh CODENAME [FILE…]       FILEs default to apt's own (.list and .sources)
set -euo pipefail

codename=$1
shift
if [ $# -eq 0 ]; then
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    for f in "$list" "${parts%/}"/*.list "${parts%/}"/*.sources; do
        [ ! -r "$f" ] || set -- "$@" "$f"
    done
fi

# Both styles become one line a source, TAB between fields, \001 between the lines of a field:
#   suites TAB components TAB everything else as deb822 lines
one_line_style() {
    awk '
    { sub(/#.*/, "") }
    $1 != "deb" { next }
    {
        rest = ""
        line = $0
        if (match(line, /\[[^]]*\]/)) {
            opts = substr(line, RSTART + 1, RLENGTH - 2)
            line = substr(line, 1, RSTART - 1) " " substr(line, RSTART + RLENGTH)
            n = split(opts, opt, /[ \t]+/)
            for (i = 1; i <= n; i++) {
                if (!match(opt[i], /[-+]?=/))
                    continue
                name = tolower(substr(opt[i], 1, RSTART - 1))
                value = substr(opt[i], RSTART + RLENGTH)
                gsub(/,/, " ", value)
                if (name == "arch") name = "Architectures"
                else if (name == "lang") name = "Languages"
                else if (name == "target") name = "Targets"
                else name = title(name)
                rest = rest name ": " value "\001"
            }
        }
        n = split(line, f, /[ \t]+/)
        uri = 0
        for (i = 1; i <= n; i++)
            if (f[i] == "deb") { uri = i + 1; break }
        comps = ""
        for (i = uri + 2; i <= n; i++)
            comps = comps " " f[i]
        printf "%s\t%s \tURIs: %s\001%s\n", " " f[uri + 1] " ", comps, f[uri], rest
    }
    function title(name, part, i, n, out) { # signed-by: Signed-By
        n = split(name, part, "-")
        for (i = 1; i <= n; i++)
            out = out (i > 1 ? "-" : "") toupper(substr(part[i], 1, 1)) substr(part[i], 2)
        return out
    }' "$1"
}

deb822_style() {
    awk '
    function flush() {
        if (types ~ / deb / && enabled !~ /^(no|false|0|off)$/ && suites != "")
            printf "%s\t%s\t%s\n", suites, comps, rest
        types = suites = comps = rest = enabled = field = ""
    }
    BEGIN { flush() }
    /^#/ { next }
    /^[ \t]*$/ { flush(); next }
    /^[ \t]/ { more($0); next }
    {
        colon = index($0, ":")
        field = tolower(substr($0, 1, colon - 1))
        value = substr($0, colon + 1)
        if (field == "types") types = " " words(value) " "
        else if (field == "suites") suites = " " words(value) " "
        else if (field == "components") comps = " " words(value) " "
        else if (field == "enabled") enabled = tolower(words(value))
        else rest = rest substr($0, 1, colon) value "\001"
    }
    function words(s) { gsub(/[ \t]+/, " ", s); sub(/^ /, "", s); sub(/ $/, "", s); return s }
    function more(line) {
        if (field == "types") types = types words(line) " "
        else if (field == "suites") suites = suites words(line) " "
        else if (field == "components") comps = comps words(line) " "
        else if (field != "enabled") rest = rest line "\001"
    }
    END { flush() }' "$1"
}

all_sources() {
    local f
    for f in "$@"; do
        case $f in
        *.sources) deb822_style "$f" ;;
        *) one_line_style "$f" ;;
        esac
    done
}

sources=$(all_sources "$@")
if grep -q " $codename-backports/\? [^	]*	[^	]* main " <<<"$sources"; then
    exit 0
fi
# The suite may be named by its code name or by its age; the first whole one with packages of
# "main" is the distribution itself, third parties name suites and components of their own.
base=$(awk -F'\t' -v code="$codename" '
    $2 !~ / main / || $3 ~ /URIs:[ \t]*cdrom:/ { next }
    index($1, " " code " ") || index($1, " " code "-updates ") { best = best ? best : $3 }
    $1 ~ / (stable|oldstable|oldoldstable) / { aged = aged ? aged : $3 }
    END { print best ? best : aged }' <<<"$sources")
if [ -z "$base" ]; then
    echo "deps: apt has no source for $codename/main (looked in: $*)" >&2
    exit 1
fi
printf '# Written by deps/install.sh of SLDMKVCacheStore: libraft from backports. May be removed\n'
printf '# after `apt-get purge libraft-dev`.\n'
printf 'Types: deb\nSuites: %s-backports\nComponents: main\n' "$codename"
tr '\001' '\n' <<<"$base" | sed '/^[[:space:]]*$/d'
