#!/usr/bin/env bash
# Unpacks a real `adbd` for Linux, which Debian has since trixie, into a folder of its own: 7 MB of
# packages, nothing is installed. It comes from wherever this machine's apt has Debian from.
#
#     tests/bench/devices/get_adbd.sh [FOLDER]      default ~/.cache/tfeffi/adbd
set -euo pipefail
to=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/tfeffi/adbd}
[ -e "$to/usr/lib/android-sdk/platform-tools/adbd" ] && exit 0
. /etc/os-release
site=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' |
  awk -v suite="$VERSION_CODENAME" '$2 == suite && $3 == "main" { print $1; exit }')
[ -n "$site" ] || { echo "apt has no source of Debian $VERSION_CODENAME main" >&2; exit 1; }
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $site trixie main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<X
Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status";
Dir::Cache "$apt/cache"; Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-";
APT::Sandbox::User ""; APT::Install-Recommends "false"; Acquire::Languages "none";
X
export APT_CONFIG=$apt/apt.conf
apt-get update -qq
apt-get install -qq --yes --download-only adbd >/dev/null
for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$apt/root"; done
mkdir -p "$(dirname "$to")"
rm -rf "$to"
mv "$apt/root" "$to"
