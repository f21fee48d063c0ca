# Finds the tools of a build, or installs them as root on Debian. Sourced by scripts/demo, scripts/fuzz,
# scripts/test and .ci/run.

# Returns 1 after printing the command that installs the missing tool.
require_build_tools() {
  if ! command -v cargo >/dev/null; then
    echo "no cargo: install Rust with: curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    return 1
  fi
  command -v cc >/dev/null || install_debian "no C compiler" build-essential || return 1
  command -v curl >/dev/null || install_debian "no curl" curl || return 1
}

install_debian() {
  local missing=$1 package=$2
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "$missing: installing $package" >&2
    apt-get update -q >&2 && apt-get install -y -q "$package" >&2
  else
    echo "$missing: on Debian, install it with: sudo apt-get install $package" >&2
    return 1
  fi
}
