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
exec python -m pytest "$@"
