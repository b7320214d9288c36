#!/usr/bin/env bash
# Installs sqtune, and what a cluster needs, into an environment: the versions of requirements.lock
# and requirements-cluster.lock and no others. Give it uv and the environment's Python:
# install.sh UV PYTHON
set -euo pipefail

uv=$1
python=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

"$uv" pip install --quiet --python "$python" --compile-bytecode \
  --constraint requirements.lock --constraint requirements-cluster.lock \
  --build-constraint requirements.lock '.[cluster]'

# A constraint says nothing about a package that it does not name: that would be some version.
unlocked=$("$uv" pip freeze --quiet --python "$python" |
  grep --invert-match '^sqtune @' |
  grep --invert-match --line-regexp --fixed-strings --file=requirements.lock |
  grep --invert-match --line-regexp --fixed-strings --file=requirements-cluster.lock || true)
if [ -n "$unlocked" ]; then
  printf 'error: the lock files do not have:\n%s\nAdd it there: make lock\n' "$unlocked" >&2
  exit 1
fi
