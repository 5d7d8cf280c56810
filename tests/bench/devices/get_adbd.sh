#!/usr/bin/env bash
# Unpacks a real `adbd` for Linux, which Debian has since trixie, into a folder of its own: 7 MB of
# packages, nothing is installed.
#
#     tests/bench/devices/get_adbd.sh [FOLDER]      default ~/.cache/tfeffi/adbd
set -euo pipefail
. "$(dirname "$0")/private_apt.sh"
to=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/tfeffi/adbd}
[ -e "$to/usr/lib/android-sdk/platform-tools/adbd" ] && exit 0
private_apt trixie "$(dpkg --print-architecture)"
apt-get install -qq --yes --download-only adbd >/dev/null
unpack "$apt/root"
mkdir -p "$(dirname "$to")"
rm -rf "$to"
mv "$apt/root" "$to"
