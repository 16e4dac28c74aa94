# shellcheck shell=bash
# One node with a control plane of its own, in namespaces and cgroups made for it. To be sourced, from the project's folder:
#
#   node_missing   says what this machine lacks for it; nothing when it can
#   node_up        starts it and waits until it is ready; it ends with this shell at the latest
#   node_down      ends it and removes all that it left
#   node_run CMD   runs CMD in its network, with KUBECONFIG set

node_target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export RUN=$node_target/node/run         # What runs: keys, state, logs.
export PROGRAMS=$node_target/cluster     # What tests/cluster/build.sh made.
export NODE=node-1 ADDRESS=172.30.0.2 PODS=10.244.0.0/24 SERVICES=10.96.0.0/16
# Holds a pod's namespaces; also the workload of the tests.
export SANDBOX=stint.test/pod:1 SANDBOX_FILE=$node_target/node/pod.tar
export CNI=/usr/lib/cni
export KUBECONFIG=$RUN/pki/admin.kubeconfig

# The cgroup hierarchies of version 1, by name.
HIERARCHIES=$(awk -F: '$2 != "" { sub("name=", "", $2); printf "%s ", $2 }' /proc/self/cgroup)
export HIERARCHIES

# The node's cgroup in each hierarchy, below the one that this shell is in.
node_cgroups() {
  local hierarchy own
  for hierarchy in $HIERARCHIES; do
    own=$(awk -F: -v name="$hierarchy" '{ sub("name=", "", $2) } $2 == name { print ($3 == "/") ? "" : $3 }' /proc/self/cgroup)
    echo "/sys/fs/cgroup/$hierarchy$own/stint-$NODE"
  done
}

node_missing() {
  local pair first
  [ "$(id -u)" = 0 ] || echo "root: the node makes namespaces, mounts and cgroups"
  for pair in containerd:containerd ctr:containerd runc:runc nft:nftables iptables:iptables ipset:ipset ip:iproute2 sysctl:procps openssl:openssl \
    unshare:util-linux setpriv:util-linux; do
    command -v "${pair%:*}" >/dev/null || echo "the program ${pair%:*} (Debian: ${pair#*:})"
  done
  [ -x "$CNI/bridge" ] && [ -x "$CNI/host-local" ] || echo "CNI plugins in $CNI (Debian: containernetworking-plugins)"
  for first in memory cpu pids devices freezer; do
    case " $HIERARCHIES" in *" $first "*) ;; *) echo "the cgroup hierarchy '$first' of version 1" ;; esac
  done
  [ "$(id -u)" != 0 ] || unshare --net --mount sh -c \
    'ip link add stint-try type bridge && nft add table inet stint-try && mount -t tmpfs tmpfs /run' >/dev/null 2>&1 ||
    echo "leave to make network and mount namespaces, bridges and nftables tables"
}

node_up() {
  local cgroup began=$SECONDS
  node_down
  mkdir -p "$RUN"
  tests/node/pki.sh "$RUN/pki" "$NODE" "$ADDRESS" 10.96.0.1
  node_cgroups >"$RUN/cgroups"
  (
    while read -r cgroup; do
      mkdir -p "$cgroup"
      # A cpuset takes no process before it has processors and memory.
      if [ -e "$cgroup/cpuset.cpus" ]; then
        cat "${cgroup%/*}/cpuset.cpus" >"$cgroup/cpuset.cpus"
        cat "${cgroup%/*}/cpuset.mems" >"$cgroup/cpuset.mems"
      fi
      echo "$BASHPID" >"$cgroup/cgroup.procs"
    done <"$RUN/cgroups"
    # Not of this shell's process group, so that Ctrl-C reaches the shell alone and it can clean up; yet gone with it.
    exec setsid setpriv --pdeathsig KILL unshare --mount --net --pid --ipc --uts --cgroup --fork --kill-child --mount-proc \
      tests/node/init.sh >"$RUN/init.log" 2>&1 </dev/null
  ) &
  node_process=$!
  until [ -e "$RUN/started" ] && node_run "$PROGRAMS/kubectl" wait --for=condition=Ready "node/$NODE" --timeout=1s >/dev/null 2>&1; do
    kill -0 "$node_process" 2>/dev/null || { echo "the node died: $(tail -n 5 "$RUN/init.log")"; return 1; }
    [ $((SECONDS - began)) -lt 120 ] || { echo "the node is not ready; its logs are in $RUN"; return 1; }
    sleep 0.3
  done
}

# PID 1 of the node, as this machine numbers it.
node_init() { tr -d ' ' <"/proc/$node_process/task/$node_process/children"; }

node_run() { nsenter --target "$(node_init)" --net "$@"; }

node_down() {
  local cgroup
  if [ -n "${node_process:-}" ]; then
    # The kernel ends all of a PID namespace with its PID 1, and what else is in the other namespaces goes with that.
    kill -KILL "$(node_init)" 2>/dev/null || true
    wait "$node_process" 2>/dev/null || true
    node_process=
  fi
  if [ -e "$RUN/cgroups" ]; then
    while read -r cgroup; do
      [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done <"$RUN/cgroups"
  fi
  rm -rf "$RUN"
}
