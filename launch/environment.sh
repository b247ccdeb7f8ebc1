# Sourced by the scripts beside it: a virtual environment with the pins and this checkout, made once.
#
#   PYTHON     interpreter to make it with, 3.11 or newer (default: python3)
#   HSEG_VENV  its folder (default: .venv in the checkout)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${HSEG_VENV:-$ROOT/.venv}

# Ends the script with one line, as every mistake of the user's does.
fail() {
  echo "$(basename "$0"): $*" >&2
  exit 2
}

python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# What the environment is made from; another value means that it must be made anew.
fingerprint() {
  echo "$ROOT" "$1" "$(cat "$ROOT/requirements.txt" "$ROOT/setup.py" | cksum)"
}

is_current() {
  local version
  version=$(python_version "$VENV/bin/python") || return 1
  [ "$(cat "$VENV/made_from" 2>/dev/null)" = "$(fingerprint "$1")" ] || return 1
  # Without PYTHON whatever it was made with will do.
  [ -z "${PYTHON:-}" ] || [ "$(python_version "$PYTHON")" = "$version" ]
}

# Puts an environment's commands, hseg among them, first in PATH; makes it where needed.
# $1: an extra of setup.py, such as gpu (optional).
prepare_environment() {
  local extra=${1:-} python=${PYTHON:-python3}
  if ! is_current "$extra"; then
    local version
    version=$(python_version "$python") || fail "$python does not run; set PYTHON=python3.12."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      fail "$python is Python $version; 3.11 or newer is needed, as in PYTHON=python3.12."
    echo "Installing into $VENV with Python $version; this takes a few minutes."
    "$python" -m venv --clear "$VENV" ||
      fail "$python cannot make $VENV; Debian and Ubuntu have venv in python$version-venv."
    local pip=("$VENV/bin/python" -m pip --quiet --no-input --disable-pip-version-check)
    "${pip[@]}" install --requirement "$ROOT/requirements.txt"
    # The pins hold setuptools, so that nothing is fetched to build the checkout.
    "${pip[@]}" install --constraint "$ROOT/requirements.txt" --no-build-isolation \
      --editable "$ROOT${extra:+[$extra]}"
    # Last of all: an environment without it was left half made.
    fingerprint "$extra" > "$VENV/made_from"
  fi
  export PATH="$VENV/bin:$PATH"
}
