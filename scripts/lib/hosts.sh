# Simulated hosts on one machine, for scripts/test --hosts. Each is a network namespace with an address,
# connected to a switch in a namespace of its own. The machine's own network is neither changed nor
# reachable. In the switch's namespace, the link to a host has the host's name.
# shellcheck shell=bash

declare -A HOST_ADDRESSES=(
  [server]=10.77.0.10 [scheduler]=10.77.0.20 [executor1]=10.77.0.31 [executor2]=10.77.0.32 [client]=10.77.0.40
)

require_hosts() {
  if [ "$(id -u)" != 0 ]; then
    echo "test: --hosts creates network namespaces, which needs root: sudo scripts/test --hosts" >&2
    return 1
  fi
  if ! command -v ip >/dev/null; then
    echo "test: --hosts needs the command ip: on Debian, apt-get install iproute2" >&2
    return 1
  fi
}

# Creates the namespaces. Sets HOSTS_PREFIX, with which their names begin.
make_hosts() {
  HOSTS_PREFIX=flowsigma-$$
  local host other mac switch=$HOSTS_PREFIX-switch
  ip netns add "$switch"
  ip -n "$switch" link add switch type bridge
  ip -n "$switch" link set switch up
  for host in "${!HOST_ADDRESSES[@]}"; do
    ip netns add "$HOSTS_PREFIX-$host"
    ip -n "$switch" link add "$host" type veth peer name eth0 netns "$HOSTS_PREFIX-$host"
    ip -n "$switch" link set "$host" master switch up
    ip -n "$HOSTS_PREFIX-$host" address add "${HOST_ADDRESSES[$host]}/24" dev eth0
    ip -n "$HOSTS_PREFIX-$host" link set lo up
    ip -n "$HOSTS_PREFIX-$host" link set eth0 up
  done
  # Permanent neighbour entries: without them the kernel would report a host whose link is cut as unreachable,
  # and the tests need a silent one.
  for host in "${!HOST_ADDRESSES[@]}"; do
    mac=$(ip netns exec "$HOSTS_PREFIX-$host" cat /sys/class/net/eth0/address)
    for other in "${!HOST_ADDRESSES[@]}"; do
      [ "$other" = "$host" ] || ip -n "$HOSTS_PREFIX-$other" neighbour replace \
        "${HOST_ADDRESSES[$host]}" lladdr "$mac" dev eth0 nud permanent
    done
  done
}

on_host() { # HOST COMMAND...
  ip netns exec "$HOSTS_PREFIX-$1" "${@:2}"
}

# Deletes the namespaces, and kills the processes in them.
remove_hosts() {
  local host pids
  [ -n "${HOSTS_PREFIX:-}" ] || return 0
  for host in "${!HOST_ADDRESSES[@]}" switch; do
    pids=$(ip netns pids "$HOSTS_PREFIX-$host" 2>/dev/null || true)
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
    ip netns delete "$HOSTS_PREFIX-$host" 2>/dev/null || true
  done
}
