#!/usr/bin/env bash
# The main job in one command: installs, trains cast_tiny on PartWorld, evaluates, writes a report.
#
#   launch/quickstart.sh [--config.field=value ...]
#
# No accelerator and no download of data. Run again, it goes on where it stopped; a finished run is
# not trained again. See environment.sh for PYTHON.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment
cd "$ROOT"

workdir=runs/quickstart
hseg train --config configs/cast_tiny_partworld_graph.py --workdir "$workdir" "$@"
if [ -f "$workdir/report.html" ]; then
  echo "Report: $ROOT/$workdir/report.html"
fi
