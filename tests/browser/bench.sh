#!/usr/bin/env bash
# The body of `scripts/bench page`: one service and two browsers in a network of their own.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd -- "$here/../.." && pwd)
rtcctl='' runs=15 access=open

usage() {
    cat <<USAGE
usage: scripts/bench page [--runs N] [--rtcctl FILE]

Builds rtcctl, starts it and two headless Chromium in one network namespace, and prints two lines: the time from the
second join to the first frame on both sides, and from opening an invite link in a browser that remembers its devices
to being in the room, each as \`median [min-max]\` with its target. Needs root, Chromium, certutil, Node.js and npm.

  --runs N        how often each is done (15)
  --key           the same where one needs an invite link
  --rtcctl FILE   measure this rtcctl instead of building one
USAGE
}

fail() {
    printf 'error: %s\nhint: %s\n' "$2" "$3" >&2
    exit "$1"
}

while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --key) access=key ;;
        --runs | --rtcctl)
            (($# > 1)) || fail 2 "\`$1\` needs a value" "see: scripts/bench page --help"
            if [[ $1 == --runs ]]; then runs=$2; else rtcctl=$(realpath -- "$2"); fi
            shift
            ;;
        *)
            usage >&2
            fail 2 "unknown argument \`$1\`" "see above"
            ;;
    esac
    shift
done
[[ $runs =~ ^[1-9][0-9]*$ ]] || fail 2 "\`--runs\` takes a number from 1, not \`$runs\`" "see: scripts/bench page --help"
((EUID == 0)) || fail 1 "network namespaces need root" "run \`sudo scripts/bench page\`"
for program in chromium certutil node npm ip unshare; do
    command -v "$program" >/dev/null || fail 1 "\`$program\` is missing" "run \`scripts/test\` once: it installs what browsers need"
done
if [[ -z $rtcctl ]]; then
    (cd "$repo" && cargo build --quiet --release --locked --bin rtcctl) || fail 1 "the build failed" "see the compiler's messages above"
    rtcctl=${CARGO_TARGET_DIR:-$repo/target}/release/rtcctl
fi
[[ -d $here/node_modules/playwright-core ]] || (cd "$here" && npm ci --silent --no-audit --no-fund) ||
    fail 1 "npm could not install what $here/package.json names" "see its messages above"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Chromium gathers no candidate where there is no interface with a default route.
# shellcheck disable=SC2016 # it is the inner shell that expands
unshare --net -- bash -euo pipefail -c '
    rtcctl=$1 home=$2/home runs=$3 bench=$4 access=$5
    trap "\"$rtcctl\" --home \"$home\" stop >/dev/null 2>&1 || true" EXIT
    ip link set lo up
    ip link add eth0 type veth peer name far
    ip address add 10.96.0.1/24 dev eth0
    ip link set eth0 up
    ip link set far up
    ip route add default via 10.96.0.2
    "$rtcctl" --home "$home" init --yes --host 10.96.0.1 --reach lan --access "$access" --relay-ip 10.96.0.1 --web-port 8443 --http-port 8080 --turn-port 3478 >"$2/log" 2>&1
    "$rtcctl" --home "$home" start >>"$2/log" 2>&1 || { cat "$2/log"; exit 1; }
    link=$("$rtcctl" --home "$home" --quiet invite)
    LINK=$link URL=https://10.96.0.1:8443 CA=$home/certs/ca.pem NETWORKS=, RUNS=$runs node "$bench"
' _ "$rtcctl" "$scratch" "$runs" "$here/bench.mjs" "$access"
