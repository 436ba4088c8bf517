#!/usr/bin/env bash
# Makes the virtual environment that `make` uses, and the system libraries that headless rendering needs.
# usage: make_environment.sh FOLDER
set -euo pipefail
venv=$1

as_root() { # run a command as root, or fail without asking for a password
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else return 1; fi
}

apt_install() { # install Debian packages where this user may; otherwise say which
  if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    as_root apt-get update -qq &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  else
    echo "Please install as root, then run make again: apt-get install $*" >&2
    return 1
  fi
}

python=""
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || { echo "Python 3.11 or later is needed: install it, or set PYTHON=/path/to/python." >&2; exit 1; }

if [ ! -x "$venv/bin/python" ]; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
  "$python" -m venv "$venv"
fi

echo "Installing into $venv (a few minutes the first time) ..."
"$venv/bin/python" -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'

if ! "$venv/bin/vipa" doctor --only rendering >/dev/null; then
  apt_install libegl1 libgl1 libgl1-mesa-dri || true
  "$venv/bin/vipa" doctor --only rendering >/dev/null || apt_install libosmesa6 || true
  "$venv/bin/vipa" doctor --only rendering >/dev/null ||
    echo "Headless rendering does not work yet (see '$venv/bin/vipa doctor'); everything else does." >&2
fi
