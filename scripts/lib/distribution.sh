# The download cache: CACHE/dist/NAME exists only if it is complete.
# fetch_opensearch and fetch_elasticsearch fetch a server.
# shellcheck shell=bash disable=SC2154,SC2034

MAVEN_DEPENDENCY=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

cache_directory() {
  if [[ -n ${FLOWSIGMA_SERVERS:-} ]]; then
    realpath -m "$FLOWSIGMA_SERVERS"
  elif ((EUID == 0)); then
    # Elasticsearch refuses to run as root, and its user cannot enter root's home.
    echo /var/cache/flowsigma/servers
  else
    realpath -m "${XDG_CACHE_HOME:-$HOME/.cache}/flowsigma/servers"
  fi
}
CACHE=$(cache_directory)

run_maven() { # GOAL ARGUMENT...
  JAVA_HOME=$JAVA mvn -q -B -Dstyle.color=never "$MAVEN_DEPENDENCY:$1" "${@:2}" >&2
}

# Sets DIST.
install_distribution() {
  # The path is written to configuration files, and printed as shell variables.
  [[ $CACHE =~ ^[A-Za-z0-9/._+@-]+$ ]] || die "no server can run in '$CACHE': use letters, digits and . _ + @ / - alone"
  DIST=$CACHE/dist/$NAME
  mkdir -p "$CACHE/dist" "$CACHE/run"
  [[ ! -d $DIST ]] || return 0
  require_maven
  local partial=$CACHE/dist/.$NAME.partial lock
  exec {lock}>"$CACHE/dist/.$NAME.lock"
  flock "$lock"
  if [[ ! -d $DIST ]]; then
    log "fetching $NAME"
    rm -rf "$partial"
    mkdir "$partial"
    fetch_"$KIND" "$partial"
    chmod -R a+rX "$partial"
    mv -T "$partial" "$DIST"
  fi
  exec {lock}>&-
}
