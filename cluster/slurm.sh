#!/usr/bin/env bash
# One run on several hosts by Slurm:
#   sbatch --nodes 2 --gpus-per-node 8 cluster/slurm.sh RUN CONFIG [OPTION...]
# from the repository, with the environment active in which `distgram` is installed. RUN must be on
# storage that all hosts share. Three minutes before the time limit the run is asked to stop; it saves
# its state, and the job is queued again and goes on.
#SBATCH --job-name=distgram
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=distgram-%j.log
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "slurm.sh: expected RUN CONFIG [OPTION...]" >&2
    exit 2
fi
run=$(realpath -m "$1") config=$(realpath "$2")
shift 2

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$head:$((20000 + SLURM_JOB_ID % 20000)) # two jobs may follow each other on a host
gpus=${SLURM_GPUS_ON_NODE:-0}
if [ "$gpus" -gt 0 ]; then
    set -- --gpus-per-worker "$gpus" "$@"
fi

# One token for this job; the hosts share the home directory.
RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # hosts of a large job do not start together
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

again=no
trap 'again=yes; touch "$run/stop" || true' USR1

srun --kill-on-bad-exit=1 ray symmetric-run --address "$address" \
    --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_ON_NODE" --num-gpus "$gpus" -- \
    "$SLURM_SUBMIT_DIR/cluster/solve-or-resume.sh" "$run" "$config" \
    --ray --address "$address" --workers "$SLURM_JOB_NUM_NODES" "$@" &
code=0
wait $! || code=$?
if [ "$again" = yes ]; then # the signal interrupted the first wait
    code=0
    wait $! || code=$?
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
