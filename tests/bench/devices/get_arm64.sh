#!/usr/bin/env bash
# Unpacks what runs LiteRT on an emulated ARM64 processor: qemu, and a Python with the wheels for it.
# Nothing is installed; 120 MB are downloaded, 200 MB kept.
#
#     tests/bench/devices/get_arm64.sh [PYTHON [FOLDER]]      default .venv/bin/python
#                                                             and ~/.cache/tfeffi/arm64
set -euo pipefail
. "$(dirname "$0")/private_apt.sh"
python=${1:-.venv/bin/python}
to=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/tfeffi/arm64}
version=$("$python" -c 'import importlib.metadata as m; print(m.version("ai-edge-litert"))')
[ -e "$to/litert-$version" ] && exit 0
private_apt bookworm arm64
packages=(python3-minimal libpython3.11-stdlib libstdc++6 libgcc-s1)
apt-get install -qq --yes --download-only "${packages[@]}" >/dev/null
root=$(mktemp -d)
trap 'rm -rf "$root" "$apt"' EXIT
unpack "$root/arm64"
private_apt trixie "$(dpkg --print-architecture)"
trap 'rm -rf "$root" "$apt"' EXIT
apt-get install -qq --yes --download-only qemu-user >/dev/null
unpack "$root/all"  # of which one program is kept
mkdir -p "$root/usr/bin"
mv "$root/all/usr/bin/qemu-aarch64" "$root/usr/bin/"
rm -rf "$root/all"
platforms=()
for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
  platforms+=(--platform "${name}_aarch64")
done
"$python" -m pip download --quiet --no-deps --dest "$root/wheels" --python-version 3.11 \
  --implementation cp --only-binary=:all: "${platforms[@]}" \
  "ai-edge-litert==$version" numpy
mkdir -p "$root/site"
for wheel in "$root"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$root/site"; done
rm -rf "$root/wheels"
touch "$root/litert-$version"
mkdir -p "$(dirname "$to")"
rm -rf "$to"
chmod 755 "$root"
mv "$root" "$to"
