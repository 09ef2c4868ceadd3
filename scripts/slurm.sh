#!/usr/bin/env bash
# Trains on the machines of a SLURM job, and asks for another job when the time is up:
#
#   sbatch --nodes=2 --gpus-per-node=8 scripts/slurm.sh -opt options/x.yml [--set a.b=c ...]
#
# Run it from the root of the checkout, in the environment that holds torch. The folder of runs has to be shared by
# all machines. docs/scaling.md says what happens when.
#
#SBATCH --job-name=gradloom
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH --signal=B:USR1@900
set -euo pipefail

minutes=10                                            # before the end at which the run saves; SLURM warns at 15
cpus=${SLURM_CPUS_PER_TASK:-1}
processes=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}      # on each machine
restarts=${RESTARTS:-3}                               # after failures, within this job
mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cpus > processes ? cpus / processes : 1))}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300             # seconds to save in, once a signal came
if [[ -z ${SLURM_JOB_END_TIME:-} ]]; then             # older versions of SLURM do not say it
    SLURM_JOB_END_TIME=$(date -d "$(squeue --noheader --job "$SLURM_JOB_ID" --format %e)" +%s)
    export SLURM_JOB_END_TIME
fi

warned=0
trap 'warned=1' USR1
srun --kill-on-bad-exit=1 --ntasks-per-node=1 --cpus-per-task="$cpus" torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="$processes" --max_restarts="$restarts" \
    --rdzv_backend=c10d --rdzv_endpoint="${machines[0]}:$((20000 + SLURM_JOB_ID % 20000))" \
    --rdzv_id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    train.py --resume auto --set "train.save_before_timeout=$minutes" "$@" &
run=$!
while
    code=0
    wait "$run" || code=$?
    ((code == 128 + $(kill -l USR1)))                 # it was the warning that ended the waiting
do :; done

if ((warned && code == 0)); then                      # the time is up; a job that finds all done ends at once
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
