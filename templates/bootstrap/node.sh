#!/bin/sh
# Makes this machine a node: fetches rtcctl, compares its digest, sets it up, lets callers through the host's firewall,
# starts it, and writes down what came of it. A second time it changes nothing. There is no secret in it: keys are made
# on the machine, and `rtcctl invite` shows the link to those who may log in.
set -u
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="${HOME:-/root}" LC_ALL=C
sha256=@SHA256@
urls='@URLS@'
program=${RTCCTL_PROGRAM:-/usr/local/bin/rtcctl}
result=${RTCCTL_RESULT:-/var/lib/rtcctl-bootstrap.json}
patience=${RTCCTL_PATIENCE:-300}
begun=$(date +%s)

say() { printf 'rtcctl bootstrap: %s\n' "$*"; }

# One line of JSON, in the file and as the last line of the output.
finish() { # WORD EXIT_CODE WHY
    why=$(printf '%s' "$3" | tr '\n\t"\134' "  .." | cut -c 1-400)
    page=$(printf '%s' "${status:-}" | sed -n 's/^ *"web": "\(https:[^"]*\)".*/\1/p' | head -n 1)
    line=$(printf '{"schema_version":1,"result":"%s","exit_code":%d,"why":"%s","page":"%s","sha256":"%s","seconds":%d}' \
        "$1" "$2" "$why" "$page" "$sha256" $(($(date +%s) - begun)))
    mkdir -p "$(dirname "$result")"
    printf '%s\n' "$line" >"$result.new" && mv -f "$result.new" "$result"
    printf 'rtcctl-bootstrap-result %s\n' "$line"
    exit "$2"
}

fail() { say "$2"; finish failed "$1" "$2"; }

digest() { sha256sum "$1" 2>/dev/null | cut -d ' ' -f 1; }

fetch() { # URL FILE
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --proto '=https,file' --connect-timeout 10 --max-time 300 -o "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -q -T 30 -O "$2" "$1"
    elif command -v python3 >/dev/null 2>&1; then
        python3 -c 'import sys,urllib.request as u; open(sys.argv[2],"wb").write(u.urlopen(sys.argv[1],timeout=60).read())' "$1" "$2"
    else
        fail 1 "there is no curl, wget or python3 to fetch the program with"
    fi
}

[ "$(id -u)" = 0 ] || fail 15 "this needs root"
command -v sha256sum >/dev/null 2>&1 || fail 1 "there is no sha256sum to compare the program with"

if [ "$(digest "$program")" = "$sha256" ]; then
    say "the program is there already"
else
    folder=$(dirname "$program")
    mkdir -p "$folder"
    new=$folder/.rtcctl.bootstrap
    trap 'rm -f "$new"' EXIT
    until_then=$((begun + patience))
    while :; do
        for url in $urls; do
            say "fetching $url"
            if fetch "$url" "$new" && [ "$(digest "$new")" = "$sha256" ]; then break 2; fi
            say "that is not the program"
        done
        # The network may not be there yet.
        [ "$(date +%s)" -lt "$until_then" ] || fail 1 "none of the addresses gives the program with the digest $sha256"
        sleep 3
    done
    chmod 755 "$new"
    mv -f "$new" "$program"
    if command -v restorecon >/dev/null 2>&1; then restorecon "$program"; fi
fi
"$program" version || fail 1 "the program does not run on this machine"

set -- @INIT@
case $("$program" init --help) in *'none or service'* | *'service or none'*) set -- "$@" --boot service ;; esac
# The end of what it says may be the invite link, which is a secret, and what is said here is kept in logs.
said=$("$program" init --yes "$@" 2>&1)
code=$?
# 12: it is set up, and something outside of this machine is missing, which the result says.
[ "$code" = 0 ] || [ "$code" = 12 ] || fail "$code" "rtcctl init: $(printf '%s' "$said" | grep -v '#key=' | tail -n 5)"
started=$("$program" start 2>&1) || fail $? "rtcctl start: $started"
say "$started"
# Findings may need a moment: what is written down is what is so then.
status=$("$program" status --json)
serves=$?
[ "$serves" = 0 ] || [ "$serves" = 10 ] || finish failed "$serves" "rtcctl status ended with exit code $serves"
if [ "$code" = 12 ]; then
    finish ready 0 "something outside of this machine is missing: see rtcctl doctor"
fi
finish ready 0 ""
