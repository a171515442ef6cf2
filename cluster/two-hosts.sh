#!/usr/bin/env bash
# Two hosts on one Linux machine: two network namespaces, each with its own address and hosts file,
# joined by a bridge in a third. Ray's head runs on host 1, a second node on host 2.
#
#   two-hosts.sh up            make the hosts and start Ray on both (as root)
#   two-hosts.sh run COMMAND   run a command on host 1, with RAY_ADDRESS set
#   two-hosts.sh cut           unplug host 2: packets vanish, both ends keep their carrier
#   two-hosts.sh heal          plug it in again and start Ray on it anew, as after a repair
#   two-hosts.sh down          end what runs on the hosts and remove everything
#
# Settings, from the environment: TWO_HOSTS_CPUS (2), CPUs that Ray counts on each host;
# TWO_HOSTS_WAIT (60), seconds to wait for Ray. Both hosts see this machine's file system: any
# directory is shared storage.
set -euo pipefail

# Only root writes to /run: nobody else can say which folder `down` removes.
readonly STATE_FILE=/run/distgram-two-hosts
readonly HOSTS=(distgram-host1 distgram-host2) SWITCH=distgram-switch
readonly NETWORK=10.77.0 HEAD=10.77.0.1:6379
readonly CPUS=${TWO_HOSTS_CPUS:-2} WAIT=${TWO_HOSTS_WAIT:-60}

# Nobody but these two hosts can reach them, so that Ray needs no token here.
export RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0
# A proxy of this machine cannot be reached from the hosts, and would swallow Ray's own traffic.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

fail() {
    echo "two-hosts.sh: $*" >&2
    exit 2
}

on() { # on INDEX COMMAND...: run a command on a host, 1 or 2
    local host=${HOSTS[$1 - 1]}
    shift
    ip netns exec "$host" "$@"
}

state() { cat "$STATE_FILE"; } # the folder of logs and of Ray's files, made by `up`

is_up() { ip netns list | grep -qw "$SWITCH"; }

make_network() {
    ip netns add "$SWITCH"
    ip -n "$SWITCH" link add bridge type bridge
    ip -n "$SWITCH" link set bridge up
    for i in 1 2; do
        local host=${HOSTS[$i - 1]}
        # Gloo listens on what the host's own name resolves to: it must not be 127.0.0.1.
        mkdir -p "/etc/netns/$host"
        printf '127.0.0.1 localhost\n%s.%s %s\n' "$NETWORK" "$i" "$(hostname)" >"/etc/netns/$host/hosts"
        ip netns add "$host"
        ip -n "$SWITCH" link add "port$i" type veth peer name eth0 netns "$host"
        ip -n "$SWITCH" link set "port$i" master bridge up
        ip -n "$host" address add "$NETWORK.$i/24" dev eth0
        ip -n "$host" link set eth0 up
        ip -n "$host" link set lo up
    done
}

start_ray() { # start_ray INDEX OPTION...
    local i=$1
    local state
    shift
    state=$(state)
    on "$i" setsid ray start --block --node-ip-address "$NETWORK.$i" --num-cpus "$CPUS" \
        --num-gpus 0 --object-store-memory 100000000 --temp-dir "$state/$i" "$@" \
        >>"$state/host$i.log" 2>&1 </dev/null &
}

nodes() { # nodes SINCE: the number of live nodes that started after this time, in ms; 0 without Ray
    on 1 timeout 20 python -c '
import sys
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10).values()
print(sum(node.state == 0 and node.start_time_ms > int(sys.argv[2]) for node in nodes))' \
        "$HEAD" "$1" 2>/dev/null || echo 0
}

wait_for() { # wait_for NUMBER SINCE
    local until=$((SECONDS + WAIT))
    until [ "$(nodes "$2")" -ge "$1" ]; do
        if [ "$SECONDS" -ge "$until" ]; then
            tail -n 20 "$(state)"/host*.log >&2
            fail "Ray is not on both hosts after $WAIT s; its last words are above."
        fi
        sleep 1
    done
}

end_all() { # end_all INDEX: end every process on a host at once, as a power cut does
    local host=${HOSTS[$1 - 1]}
    while [ -n "$(ip netns pids "$host")" ]; do
        ip netns pids "$host" | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
        sleep 0.1
    done
}

up() {
    is_up && fail "the two hosts are there already: \`$0 down\` removes them."
    command -v ray >/dev/null || fail "the command ray is not on PATH: activate the environment first."
    mktemp -d --tmpdir distgram-two-hosts.XXXXXX >"$STATE_FILE"
    trap down EXIT # a start that fails leaves nothing behind
    make_network
    start_ray 1 --head --port "${HEAD#*:}" --include-dashboard false
    wait_for 1 0
    start_ray 2 --address "$HEAD"
    wait_for 2 0
    trap - EXIT
    echo "two hosts are up, Ray at $HEAD; logs in $(state)"
}

cut_off() { ip -n "$SWITCH" link set port2 nomaster; }

heal() {
    end_all 2
    ip -n "$SWITCH" link set port2 master bridge
    # The head may still count the lost node as alive: wait for the new one.
    local now
    now=$(date +%s%3N)
    start_ray 2 --address "$HEAD"
    wait_for 1 "$now"
}

down() {
    for i in 2 1; do
        local host=${HOSTS[$i - 1]}
        if ip netns list | grep -qw "$host"; then
            end_all "$i"
            ip netns delete "$host"
        fi
        rm -rf "/etc/netns/$host"
    done
    ! is_up || ip netns delete "$SWITCH"
    rmdir /etc/netns 2>/dev/null || true
    if [ -f "$STATE_FILE" ]; then
        rm -rf "$(state)"
        rm "$STATE_FILE"
    fi
}

[ "$(id -u)" -eq 0 ] || fail "needs root, to make network namespaces: sudo env PATH=\"\$PATH\" $0 ${1:-up}"
command -v ip >/dev/null || fail "needs the command ip (package iproute2)."

case ${1:-} in
up | down) "$1" ;;
run)
    shift
    is_up || fail "there are no hosts: \`$0 up\` makes them."
    [ $# -gt 0 ] || fail "run: expected a command."
    RAY_ADDRESS=$HEAD on 1 "$@"
    ;;
cut | heal)
    is_up || fail "there are no hosts: \`$0 up\` makes them."
    if [ "$1" = cut ]; then cut_off; else heal; fi
    ;;
*) fail "${1:-no command}: expected one of up, run COMMAND, cut, heal, down." ;;
esac
