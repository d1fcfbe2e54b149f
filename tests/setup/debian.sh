#!/bin/sh
# Installs the Debian packages that the tests need, if any is missing and this is root on Debian.
# Without root nothing is changed: the tests that need a missing program are listed as skipped.
set -eu

here=$(dirname -- "$(readlink -f -- "$0")")
PATH=$PATH:/usr/sbin:/sbin
missing=
while read -r package program; do
    case $package in ''|\#*) continue ;; esac
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done < "$here/packages.txt"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed (needs root on Debian):$missing" >&2
    exit 0
fi

# A daemon must not start by itself because a test needs its program.
guard=/usr/sbin/policy-rc.d
made=
if [ ! -e "$guard" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$guard"
    chmod 755 "$guard"
    made=$guard
fi
trap '[ -z "$made" ] || rm -f "$made"' EXIT

export DEBIAN_FRONTEND=noninteractive
echo "installing:$missing" >&2
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $missing >&2 || {
    apt-get update -q >&2
    apt-get install -y -q --no-install-recommends $missing >&2
}
