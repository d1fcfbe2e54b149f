#!/bin/sh
# debian-packages.sh LIST: installs the Debian packages of a list whose program is missing, when this is root on Debian.
# Each line of the list: a package, and the program that tells whether it is there. Without root nothing is changed:
# what needs a missing program says so itself (tests are listed as skipped; with CI=true they fail).
set -eu

PATH=$PATH:/usr/sbin:/sbin
missing=
while read -r package program; do
    case $package in ''|\#*) continue ;; esac
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done < "$1"

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

install() {
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
}

echo "installing:$missing" >&2
install || { apt-get update -q >&2 && install; } || echo "not installed (apt-get failed):$missing" >&2
