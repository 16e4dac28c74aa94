#!/usr/bin/env bash
# PID 1 of the node, which node.sh starts in new mount, network, PID, IPC, UTS and cgroup namespaces: all that is done here
# (mounts, bridges, nftables rules, sysctls, containers) goes with this process, and the machine's own network, /run,
# /var and /proc/sys are never changed. Its settings come in the environment.
set -euo pipefail
trap 'exit 0' TERM INT # PID 1 ignores signals for which it has no handler.

mounts() {
  local hierarchy option setting file
  mount --make-rprivate /
  mount -t sysfs sysfs /sys # That of this network namespace.
  # Each hierarchy's root is the cgroup that node.sh made for the node.
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for hierarchy in $HIERARCHIES; do
    mkdir "/sys/fs/cgroup/$hierarchy"
    case $hierarchy in systemd) option=none,name=systemd ;; *) option=$hierarchy ;; esac
    mount -t cgroup -o "$option" cgroup "/sys/fs/cgroup/$hierarchy"
  done
  # The kubelet writes four settings of the whole machine when they are not as it wants them. It is shown the wanted ones,
  # and the rest is read-only but for net, which each network namespace has for itself.
  mkdir -p "$RUN/sysctl"
  mount --bind /proc/sys /proc/sys
  mount --bind /proc/sys/net /proc/sys/net
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
    file=$RUN/sysctl/$(basename "${setting%=*}")
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
  mount -o remount,bind,ro /proc/sys
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/lock /run/netns /run/containerd /var/lib/kubelet "$RUN"/{kubelet,log,containerd,cni}
  mount --bind "$RUN/kubelet" /var/lib/kubelet
  mount --make-rshared /var/lib/kubelet
  mount --bind "$RUN/log" /var/log # The kubelet puts links into /var/log/containers, wherever else it works.
}

network() {
  hostname "$NODE"
  ip link set lo up
  # The node's address is on a bridge without ports: kernels without dummy devices have bridges.
  ip link add node0 type bridge
  ip address add "$ADDRESS/24" dev node0
  ip link set node0 up
  # There is no default route, and without any route to Services the kernel refuses before kube-proxy's rules are asked.
  ip route add "$SERVICES" dev node0 src "$ADDRESS"
  # What two pods of one bridge send each other passes the rules of NetworkPolicies too.
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
}

configuration() {
  cat >"$RUN/cni/10-pods.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  cat >"$RUN/containerd.toml" <<TOML
version = 2
root = "$RUN/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$SANDBOX"
  restrict_oom_score_adj = true # Lowering a score takes a capability that not every root has.
  disable_apparmor = true
  enable_selinux = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$CNI"
    conf_dir = "$RUN/cni"
TOML
  cat >"$RUN/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $RUN/pki/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDNS: [$ADDRESS]
clusterDomain: cluster.local
resolvConf: ""
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
shutdownGracePeriod: 0s
YAML
  cat >"$RUN/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $RUN/pki/proxy.kubeconfig}
mode: nftables
clusterCIDR: $PODS
hostnameOverride: $NODE
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s} # The maximum is the machine's.
YAML
  cat >"$RUN/Corefile" <<TEXT
.:53 {
  bind $ADDRESS
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local {
    kubeconfig $RUN/pki/admin.kubeconfig
  }
}
TEXT
}

# start NAME PROGRAM FLAG...
start() {
  local name=$1
  shift
  "$@" >"$RUN/$name.log" 2>&1 &
}

control_plane() {
  local pki=$RUN/pki
  start etcd "$PROGRAMS/etcd" --data-dir "$RUN/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
  start kube-apiserver "$PROGRAMS/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --secure-port 6443 \
    --advertise-address "$ADDRESS" --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" \
    --tls-private-key-file "$pki/apiserver.key" --kubelet-client-certificate "$pki/apiserver-kubelet.crt" \
    --kubelet-client-key "$pki/apiserver-kubelet.key" --kubelet-preferred-address-types InternalIP \
    --service-account-key-file "$pki/service-accounts.key" --service-account-signing-key-file "$pki/service-accounts.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local --service-cluster-ip-range "$SERVICES" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged
  until "$PROGRAMS/kubectl" get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done
  start kube-controller-manager "$PROGRAMS/kube-controller-manager" --kubeconfig "$pki/controller-manager.kubeconfig" \
    --service-account-private-key-file "$pki/service-accounts.key" --root-ca-file "$pki/ca.crt" \
    --use-service-account-credentials --leader-elect=false --controllers '*,-node-ipam-controller' --bind-address 127.0.0.1
  start kube-scheduler "$PROGRAMS/kube-scheduler" --kubeconfig "$pki/scheduler.kubeconfig" --leader-elect=false \
    --bind-address 127.0.0.1
  start coredns "$PROGRAMS/coredns" -conf "$RUN/Corefile"
}

node() {
  start containerd containerd -c "$RUN/containerd.toml" -a /run/containerd/containerd.sock
  until ctr version >/dev/null 2>&1; do sleep 0.2; done
  ctr --namespace k8s.io images import "$SANDBOX_FILE" >"$RUN/sandbox.log"
  start kubelet "$PROGRAMS/kubelet" --config "$RUN/kubelet.yaml" --kubeconfig "$RUN/pki/kubelet.kubeconfig" \
    --hostname-override "$NODE" --node-ip "$ADDRESS" --root-dir /var/lib/kubelet
  start kube-proxy "$PROGRAMS/kube-proxy" --config "$RUN/proxy.yaml"
  # It ends when its node is not there yet.
  until "$PROGRAMS/kubectl" get node "$NODE" >/dev/null 2>&1; do sleep 0.2; done
  start kube-router "$PROGRAMS/kube-router" --kubeconfig "$KUBECONFIG" --hostname-override "$NODE" \
    --run-firewall --run-router=false --run-service-proxy=false --service-cluster-ip-range "$SERVICES" \
    --health-port 0 --metrics-port 0
}

mounts
network
configuration
cd "$RUN"
control_plane
node
touch "$RUN/started"
while :; do wait -n || sleep 0.2; done # Reaps whatever is left to PID 1.
