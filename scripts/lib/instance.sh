# An instance: its directory CACHE/run/NAME.XXXXXX, its ports, its processes, its end.
#   ports    the ports that it has reserved, one per line
#   curlrc   the options with which curl reaches it (0600)
#   state    the output of start; it exists once the instance is ready
# shellcheck shell=bash disable=SC2154

# OpenSearch's runner accepts no HTTP port above 9299.
FIRST_HTTP_PORT=9210 LAST_HTTP_PORT=9299
FIRST_TRANSPORT_PORT=9310 LAST_TRANSPORT_PORT=9999
START_SECONDS=180 STOP_SECONDS=20

# Sets DIR, CLUSTER, HTTP_PORT, TRANSPORT_PORT, URLS, and IN_INSTANCE, a prefix that runs a
# command as a part of the instance, so that stop ends it. From here on a failure cleans up.
create_instance() {
  local lock i scheme=http
  exec {lock}>"$CACHE/run/.lock"
  flock "$lock"
  DIR=$(mktemp -d "$CACHE/run/$NAME.XXXXXX")
  trap abandon_start EXIT
  chmod 755 "$DIR"
  CLUSTER=$(basename "$DIR")
  IN_INSTANCE=("${AS_SERVER_USER[@]}" env "FLOWSIGMA_INSTANCE=$DIR" "HOME=$DIR")
  if [[ -n $PORT ]]; then
    ports_are_free "$PORT" "$NODES" || die "port $PORT is taken"
    HTTP_PORT=$PORT
  else
    HTTP_PORT=$(find_ports "$FIRST_HTTP_PORT" "$LAST_HTTP_PORT" "$NODES")
  fi
  TRANSPORT_PORT=$(find_ports "$FIRST_TRANSPORT_PORT" "$LAST_TRANSPORT_PORT" "$NODES")
  [[ $TLS == false ]] || scheme=https
  URLS=() LEADERS=()
  for ((i = 0; i < NODES; i++)); do
    printf '%s\n' $((HTTP_PORT + i)) $((TRANSPORT_PORT + i)) >>"$DIR/ports"
    URLS+=("$scheme://127.0.0.1:$((HTTP_PORT + i))")
  done
  exec {lock}>&-
  mkdir "$DIR/tmp"
  (umask 077 && printf '%s\n' 'noproxy = "*"' 'max-time = 5' >"$DIR/curlrc")
}

# Succeeds if COUNT ports in a row are free: no process listens on them, and no instance has reserved them.
ports_are_free() { # FIRST COUNT
  local port
  for ((port = $1; port < $1 + $2; port++)); do
    ! grep -qsx "$port" "$CACHE"/run/*/ports || return 1
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 1
  done
}

find_ports() { # FIRST LAST COUNT
  local port
  for ((port = $1; port + $3 - 1 <= $2; port++)); do
    if ports_are_free "$port" "$3"; then
      echo "$port"
      return
    fi
  done
  die "no $3 free ports from $1 to $2"
}

# Starts a node, and appends its process to LEADERS. It inherits no open file and survives the terminal.
launch() { # COMMAND...
  (cd "$DIR" && exec "${IN_INSTANCE[@]}" setsid "$@") </dev/null >>"$DIR/server.log" 2>&1 &
  LEADERS+=($!)
}

wait_until_ready() {
  local url leader deadline=$((SECONDS + START_SECONDS))
  for url in "${URLS[@]}"; do
    until node_is_ready "$url"; do
      for leader in "${LEADERS[@]}"; do
        kill -0 "$leader" 2>/dev/null || die "$NAME ended while it started"
      done
      ((SECONDS < deadline)) || die "$NAME was not ready after $START_SECONDS seconds"
      sleep 0.5
    done
  done
}

node_is_ready() { # URL
  local health
  health=$(curl -q -K "$DIR/curlrc" -sf "$1/_cluster/health") || return
  [[ $health == *"\"cluster_name\":\"$CLUSTER\""* ]] || return
  [[ $health == *"\"number_of_nodes\":$NODES,"* ]] || return
  [[ $health =~ \"status\":\"(yellow|green)\" ]]
}

print_instance() {
  local pids=("${LEADERS[@]}")
  # The server itself, if the leader is only its launcher.
  [[ ! -r $DIR/logs/pid ]] || pids=("$(cat "$DIR/logs/pid")")
  {
    echo "NAME=$NAME"
    echo "URL=${URLS[0]}"
    (IFS=,; echo "URLS=${URLS[*]}")
    echo "PID=${pids[0]}"
    (IFS=,; echo "PIDS=${pids[*]}")
    echo "DIR=$DIR"
    echo "LOG=$DIR/server.log"
    [[ $SECURITY == false ]] || print_users
    [[ $TLS == false ]] || print_authorities
  } >"$DIR/state"
  trap - EXIT
  cat "$DIR/state"
}

abandon_start() {
  if [[ -s $DIR/server.log ]]; then
    log "the last lines of the log of $NAME:"
    tail -n 40 "$DIR/server.log" >&2
  fi
  stop_instance "$DIR"
}

list_instances() {
  local dir
  for dir in "$CACHE"/run/*/; do
    [[ ! -d $dir ]] || echo "${dir%/}"
  done
}

find_instance() { # DIR|PID
  local dir wanted
  wanted=$(realpath -m -- "$1")
  for dir in $(list_instances); do
    if [[ $wanted == "$(realpath "$dir")" ]] || grep -qsE "^PIDS=(.*,)?$1(,|\$)" "$dir/state"; then
      echo "$dir"
      return
    fi
  done
  return 1
}

pids_of() { # DIR
  { grep -lzxsF "FLOWSIGMA_INSTANCE=$1" /proc/[0-9]*/environ || true; } | cut -d/ -f3
}

stop_instance() { # DIR
  local pids signal=TERM deadline=$((SECONDS + STOP_SECONDS))
  log "stopping $1"
  while pids=$(pids_of "$1") && [[ -n $pids ]]; do
    ((SECONDS < deadline)) || signal=KILL
    # A process that a test has suspended handles the signal only after SIGCONT.
    # shellcheck disable=SC2086
    kill -s "$signal" $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    kill -s CONT $pids 2>/dev/null || true
    sleep 0.3
  done
  rm -rf -- "$1"
}

print_status() {
  local dir running
  for dir in $(list_instances); do
    running=dead
    [[ -z $(pids_of "$dir") ]] || running=running
    if [[ -r $dir/state ]]; then
      echo "$running $(grep -E '^(NAME|URL|PID|DIR)=' "$dir/state" | paste -sd' ')"
    else
      echo "$running, not ready DIR=$dir"
    fi
  done
}
