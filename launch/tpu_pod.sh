#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU VM or pod slice that exists and that gcloud may reach.
#
#   TPU=name ZONE=zone launch/tpu_pod.sh --config configs/x.py --workdir W [--config.field=value ...]
#
#   TPU       name of the TPU VM
#   ZONE      its zone
#   PROJECT   its project (default: gcloud's)
#   PYTHON    interpreter on the workers, 3.11 or newer (default: python3)
#
# Every worker gets the last commit in ~/hseg_jax; changes that are not committed stay here. Paths
# among the arguments are the workers'; the workdir must be in a folder that they share.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ -n "${TPU:-}" ] && [ -n "${ZONE:-}" ] || fail "set TPU and ZONE to the name and zone of a TPU VM."
command -v gcloud > /dev/null || fail "there is no gcloud; install the Google Cloud CLI."

where=(--zone="$ZONE" --worker=all)
if [ -n "${PROJECT:-}" ]; then
  where+=(--project="$PROJECT")
fi
archive=$(mktemp -d)/hseg_jax.tar.gz
trap 'rm -r "$(dirname "$archive")"' EXIT
git -C "$ROOT" archive --output "$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$TPU:hseg_jax.tar.gz" "${where[@]}"

# Quoted once more, for the shells of the workers.
arguments=$(printf '%q ' "$@")
gcloud compute tpus tpu-vm ssh "$TPU" "${where[@]}" --command="
  set -eu
  mkdir -p hseg_jax
  tar -xzf hseg_jax.tar.gz -C hseg_jax
  cd hseg_jax
  export PYTHON=$(printf %q "${PYTHON:-python3}")
  bash -c 'set -euo pipefail; source launch/environment.sh; prepare_environment tpu; \"\$@\"' \\
    launch hseg train $arguments"
