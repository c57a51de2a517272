#!/usr/bin/env bash
# tools/mpirun.sh PROCESSES PROGRAM ...: Open MPI's mpirun for tests on one machine, also as root, in a container and
# with more processes than cores. One thread each.
set -euo pipefail
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMP_NUM_THREADS=1
exec mpirun -n "$1" --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca btl self,vader \
  --mca btl_vader_single_copy_mechanism none "${@:2}"
