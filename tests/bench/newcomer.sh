#!/usr/bin/env bash
# A new user's path, timed: from a fresh clone to a solved equation of their own with its report.
#
#   tests/bench/newcomer.sh [REPOSITORY]      by default the one it lies in, as it was committed
#
# The equation is the README's: Helmholtz on a square. Works in a new folder, which stays.
set -euo pipefail
repository=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
place=$(mktemp -d)
cd "$place"

timed() { # timed WORDS COMMAND...: run it, and say how many seconds it took
    local words=$1 began ended
    shift
    began=$(date +%s.%N)
    "$@"
    ended=$(date +%s.%N)
    awk -v w="$words" -v b="$began" -v e="$ended" 'BEGIN { printf "%8.1f s  %s\n", e - b, w }' |
        tee -a "$place/seconds"
}

timed "git clone" git clone -q "$repository" distgram
timed "make .venv/.run (the environment)" make -s -C distgram .venv/.run
source distgram/.venv/bin/activate
python distgram/tests/readme.py . >/dev/null
timed "distgram check helmholtz.toml" distgram check helmholtz.toml
timed "distgram solve helmholtz.toml" distgram solve helmholtz.toml "${@:2}"
test -s runs/helmholtz-seed0/report.html

echo
cat seconds
echo "report: $place/runs/helmholtz-seed0/report.html, $(wc -c <runs/helmholtz-seed0/report.html) bytes"
