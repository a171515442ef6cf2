#!/usr/bin/env bash
# solve-or-resume.sh RUN CONFIG OPTION...
# Goes on with the run folder RUN where it holds a checkpoint, and solves CONFIG into it otherwise, so
# that a scheduler that starts a job again may start the same command. The options go to both. Started
# a second time beside a job that goes on, it ends with an error that names that job's process.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "solve-or-resume.sh: expected RUN CONFIG OPTION..." >&2
    exit 2
fi
run=$1 config=$2
shift 2

# A checkpoint is whole once it is sealed. Where the storage does not answer, this script ends here.
begun=$(python -c '
import sys
from distgram.store.storage import files, folder
print(any(p.name == "seal.json" for p in files(folder(sys.argv[1]) / "checkpoints")))
' "$run")
if [ "$begun" = True ]; then
    # The program of the run is CONFIG's own: another host may have begun with it.
    exec distgram resume "$run" --trust "$@"
fi
# Not --force: a job beside this one may have begun, saved and ended since.
exec distgram solve "$config" --out "$run" --force-unsaved "$@"
