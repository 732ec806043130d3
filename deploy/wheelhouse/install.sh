#!/bin/sh
# The agent from this folder alone, without any network: install.sh [FOLDER], /opt/pleura unless given.
# PYTHON names the interpreter, python3 unless given. Again over an older one is an update; stop the agent before.
set -eu
target=${1:-/opt/pleura}
python=${PYTHON:-python3}
case $target in /*) ;; *) target=$PWD/$target ;; esac
cd "$(dirname "$0")"

if ! sha256sum --check --quiet SHA256SUMS; then
    echo "These files are not those of SHA256SUMS: they were damaged or changed on the way. Fetch them again." >&2
    exit 1
fi
here=$("$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.system(), platform.machine())')
if [ "$here" != "$(cat MADE_FOR)" ]; then
    echo "These wheels are for Python and system $(cat MADE_FOR); $python is $here. Name another with PYTHON=..., or" >&2
    echo "have the bundle made on a machine like this one." >&2
    exit 1
fi

"$python" -m venv "$target"
"$target/bin/python" -m pip install --isolated --no-index --no-cache-dir --disable-pip-version-check --upgrade \
    --find-links wheels --constraint requirements.lock 'pleura[participant]'
"$target/bin/python" -m pip check --disable-pip-version-check
echo "Installed. Next: $target/bin/pleura-participant init"
