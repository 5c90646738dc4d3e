#!/usr/bin/env bash
# Measures how long a newcomer waits once the binary is there: `init --yes --reach lan` and `start` until it serves.
set -euo pipefail

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
runs=5 rtcctl=''
readonly TARGET_MS=2000

usage() {
    cat <<USAGE
usage: scripts/bench first-run [--runs N] [--rtcctl FILE]

Sets a new home up and starts it, N times (5), each on free ports, and takes it back by \`uninstall\`. Prints milliseconds for
each run and the median of both together, which is to stay below $TARGET_MS. A missed target is printed and is no failure; the exit
code is 1 where a run broke off or left something behind, and 2 for a wrong argument.

  --rtcctl FILE   measure this rtcctl instead of building one
USAGE
}

while (($#)); do
    case $1 in
        --runs) runs=${2:?} && shift ;;
        --rtcctl) rtcctl=$(realpath -- "${2:?}") && shift ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[[ $runs =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }

if [[ -z $rtcctl ]]; then
    (cd "$repo" && cargo build --quiet --release --locked --bin rtcctl)
    rtcctl=${CARGO_TARGET_DIR:-$repo/target}/release/rtcctl
fi

scratch=$(mktemp -d)
cleanup() {
    [[ ! -e $scratch/home ]] || "$rtcctl" --home "$scratch/home" --quiet uninstall --purge >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap cleanup EXIT

now_ms() { printf '%s' $(($(date +%s%N) / 1000000)); }

# Two ports that nobody listens on now, below those that the kernel gives by chance.
free_ports() {
    local taken port found=()
    taken=$(ss -Hlntu | awk '{print $5}' | sed 's/.*://')
    while ((${#found[@]} < 2)); do
        port=$((20000 + RANDOM % 10000))
        grep -qx "$port" <<<"$taken" || found+=("$port")
    done
    printf '%s %s' "${found[@]}"
}

totals=()
for ((run = 1; run <= runs; run++)); do
    read -r web turn < <(free_ports; echo)
    begin=$(now_ms)
    "$rtcctl" --home "$scratch/home" --quiet init --yes --reach lan --web-port "$web" --http-port off --turn-port "$turn" >/dev/null
    set_up=$(now_ms)
    "$rtcctl" --home "$scratch/home" --quiet start >/dev/null
    ready=$(now_ms)
    printf 'run %d: init %d ms, start %d ms, together %d ms\n' "$run" $((set_up - begin)) $((ready - set_up)) $((ready - begin))
    totals+=($((ready - begin)))
    "$rtcctl" --home "$scratch/home" --quiet uninstall >/dev/null
    [[ -z $(ls -A "$scratch") ]] || { printf 'error: something was left: %s\n' "$(ls -AR "$scratch")" >&2; exit 1; }
done
mapfile -t sorted < <(printf '%s\n' "${totals[@]}" | sort -n)
median=${sorted[$((${#sorted[@]} / 2))]}
verdict=met
((median <= TARGET_MS)) || verdict=missed
printf 'result first-run median %d ms, target %d ms: %s\n' "$median" "$TARGET_MS" "$verdict"
