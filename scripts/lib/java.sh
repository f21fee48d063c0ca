# Finds a JDK from JAVA_MIN to JAVA_MAX and Maven, or installs them as root on Debian.
# Knows no server. Exits with 3 if there is none, so that callers can go on without them.
# shellcheck shell=bash disable=SC2154,SC2034

java_major() { # JAVA_HOME
  local line
  if [[ -r $1/release ]]; then
    line=$(grep -m1 '^JAVA_VERSION=' "$1/release") || return
  else
    line=$("$1/bin/java" -version 2>&1 | head -n1) || return
  fi
  [[ $line =~ \"([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

find_java() {
  local home major
  for home in "${JAVA_HOME:-}" /usr/lib/jvm/*; do
    [[ -n $home ]] || continue
    # A JRE lacks the program jar, which unpacks Elasticsearch.
    "${AS_SERVER_USER[@]}" test -x "$home/bin/jar" || continue
    major=$(java_major "$home") || continue
    if ((major >= JAVA_MIN && major <= JAVA_MAX)); then
      echo "$home"
      return
    fi
  done
  return 1
}

# Installs the first of the packages that the system offers.
apt_install() { # PACKAGE...
  local package
  ((EUID == 0)) && command -v apt-get >/dev/null || return 1
  log "installing one of: $*"
  apt-get update >&2 || log "apt-get update failed; continuing with the packages known so far"
  for package in "$@"; do
    if apt-cache show "$package" >/dev/null 2>&1; then
      DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -o DPkg::Lock::Timeout=120 "$package" >&2 && return
    fi
  done
  return 1
}

missing() { # WHAT PACKAGE
  log "server: $1 is missing; install it, for example with: apt-get install $2"
  exit 3
}

# Sets JAVA, the home of a suitable JDK.
require_java() {
  local packages=(openjdk-17-jdk-headless)
  ((JAVA_MIN <= 17)) || packages=(openjdk-21-jdk-headless openjdk-25-jdk-headless temurin-25-jdk)
  JAVA=$(find_java) && return
  apt_install "${packages[@]}" || true
  JAVA=$(find_java) && return
  if ((JAVA_MAX == JAVA_MIN)); then
    missing "Java $JAVA_MIN" "${packages[0]}"
  fi
  missing "Java $JAVA_MIN or later" "${packages[0]}"
}

require_maven() {
  command -v mvn >/dev/null && return
  apt_install maven || true
  command -v mvn >/dev/null || missing Maven maven
}
