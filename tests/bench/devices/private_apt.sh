# Sourced: packages of another Debian, from wherever this machine's apt has its own from. Nothing of
# the system is touched.
#
#     private_apt SUITE ARCHITECTURE     sets $apt, a folder that is removed in the end, and APT_CONFIG
#     unpack FOLDER                      the packages that were downloaded

private_apt() {
  . /etc/os-release
  site=$(env -u APT_CONFIG apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' |
    awk -v suite="$VERSION_CODENAME" '($2 == suite || $2 == "stable") && $3 == "main" { print $1; exit }')
  [ -n "$site" ] || { echo "apt has no source of Debian $VERSION_CODENAME main" >&2; exit 1; }
  [ -z "${apt:-}" ] || rm -rf "$apt"
  apt=$(mktemp -d)
  trap 'rm -rf "$apt"' EXIT
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [arch=$2 signed-by=$keys] $site $1 main" >"$apt/sources.list"
  cat >"$apt/apt.conf" <<X
APT::Architecture "$2"; APT::Architectures "$2";
Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status";
Dir::Cache "$apt/cache"; Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-";
APT::Sandbox::User ""; APT::Install-Recommends "false"; Acquire::Languages "none";
X
  export APT_CONFIG=$apt/apt.conf
  apt-get update -qq
}

unpack() {
  local package
  for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$1"; done
}
