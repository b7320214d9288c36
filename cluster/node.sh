#!/usr/bin/env bash
# Prepares a node of aws.yaml or gcp.yaml (Ubuntu with the driver of its GPU, if it has one): the
# locked versions in ~/venv. A second run finds everything done.
set -euo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Ray starts only with the token, and the token is nobody else's to read.
if [ ! -s ~/.ray/auth_token ]; then
  echo 'error: no token in ~/.ray/auth_token; make one where "ray up" runs: cluster/README.md' >&2
  exit 1
fi
chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

if ! [ -x ~/.uv/bin/pip ]; then
  # A fresh node updates itself, and holds apt's lock meanwhile.
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends python3-venv
  python3 -m venv ~/.uv
fi
~/.uv/bin/pip install --quiet --disable-pip-version-check "$(grep '^uv==' "$folder/../requirements.lock")"

# uv's own Python: driver and workers must agree to the last digit, whatever the images have.
~/.uv/bin/uv venv --quiet --allow-existing --managed-python --python 3.11 ~/venv
"$folder/install.sh" ~/.uv/bin/uv ~/venv/bin/python

# For every shell that the launcher opens. No secrets: all users can read it.
# The two names are for the shells that read the file.
# shellcheck disable=SC2016
printf 'export PATH="$HOME/venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0\n' |
  sudo tee /etc/profile.d/sqtune.sh > /dev/null
