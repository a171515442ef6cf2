#!/usr/bin/env bash
# solve-or-resume.sh RUN CONFIG OPTION...
# Goes on with the run folder RUN where it holds a checkpoint, and solves CONFIG into it otherwise, so
# that a scheduler that starts a job again may start the same command. The options go to both.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "solve-or-resume.sh: expected RUN CONFIG OPTION..." >&2
    exit 2
fi
run=$1 config=$2
shift 2

# A checkpoint is whole once it is sealed.
if compgen -G "$run/checkpoints/*/seal.json" >/dev/null; then
    exec distgram resume "$run" "$@"
fi
exec distgram solve "$config" --out "$run" --force "$@"
