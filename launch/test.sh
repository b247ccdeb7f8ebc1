#!/usr/bin/env bash
# Runs the tests, or those that pytest's arguments choose.
#
#   launch/test.sh
#   launch/test.sh -m "not slow"
#
# The environment is the quickstart's; see environment.sh for PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment
cd "$ROOT"
# Huge pages, but freed memory goes back to the system, unlike in hseg: processes run side by side.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# By file, so that tests share the runs and models that their file makes; each process takes 5 GB.
# In the order of tests/conftest.py, not by their number: the slow files have few.
exec python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
  --no-loadscope-reorder "$@"
