# Programs that check the project, in target/tools. Sourced by scripts/deny and scripts/lint.

tools=$PWD/target/tools
export PATH=$tools/bin:$PATH

# Installs PROGRAM, unless there is one: as a built program from PyPI, since building it takes minutes, or else from its
# crate.
install_tool() { # PROGRAM PACKAGE CRATE VERSION
  local program=$1 package=$2 crate=$3 version=$4
  command -v "$program" >/dev/null && return
  echo "installing $program $version into $tools" >&2
  # A folder for each: pip overwrites a folder bin that another package has made.
  if python3 -m pip install --quiet --no-deps --only-binary :all: --upgrade --target "$tools/$program" \
    "$package==$version"; then
    mkdir -p "$tools/bin"
    ln -sf "$tools/$program/bin/$program" "$tools/bin/$program"
  else
    cargo install --quiet --locked --root "$tools" --version "$version" "$crate"
  fi
}
