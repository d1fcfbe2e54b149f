#!/bin/sh
# venv.sh FOLDER PYTHON: makes a virtual environment with pip, that does not see packages of the system.
set -eu

folder=$1 python=$2
"$folder/bin/python" -m pip --version >/dev/null 2>&1 && exit 0
if [ -z "$python" ]; then
    echo "no python3.11 or python3 on this machine" >&2
    exit 1
fi
rm -rf "$folder"
"$python" -m venv "$folder" >/dev/null 2>&1 && exit 0
rm -rf "$folder"
# Debian keeps what venv needs in a package of its own.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv >&2 ||
        { apt-get update -q >&2 &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv >&2; } || :
fi
"$python" -m venv "$folder" || {
    rm -rf "$folder"
    echo "a virtual environment needs python3-venv: apt-get install python3-venv" >&2
    exit 1
}
