#!/usr/bin/env bash
# Trains on all NVIDIA GPUs of this host, in one process.
#
#   launch/gpu_host.sh --config configs/x.py --workdir W [--config.field=value ...]
#
# Several hosts: run the same command on each, with
#   JAX_COORDINATOR_ADDRESS  first host and a free port of it, such as 10.0.0.1:1234
#   JAX_NUM_PROCESSES        number of hosts
#   JAX_PROCESS_ID           0 on the first host, 1 on the second, ...
# and a workdir in a folder that they share. Under Slurm they are found without these.
# See environment.sh for PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
command -v nvidia-smi > /dev/null || fail "there is no nvidia-smi, hence no NVIDIA driver."
prepare_environment gpu
exec hseg train "$@"
