#!/bin/sh
#SBATCH --job-name=sterna-sweep
#SBATCH --array=0-15
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -eu

# A requeued task goes on where it was: finished checkpoints are skipped.
sterna sweep "${CHECKPOINTS:-archive}" \
  --text "${TEXT:-heldout.txt}" \
  --window 4096 \
  --output "${RESULTS:-results}" \
  --threads "${SLURM_CPUS_PER_TASK}" \
  --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}"
