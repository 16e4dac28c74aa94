#!/usr/bin/env bash
# Builds what the tests with a real control plane need, from Go modules alone: etcd, kube-apiserver,
# kube-controller-manager and kubectl (one multi-call binary), and helm. Only when asked for: promtool, which tests the
# chart's alerts; node, which makes it a cluster with a node (kubelet, kube-proxy, kube-scheduler and CoreDNS, one
# multi-call binary too, from the same module so that both share what is compiled), and pod, which runs in its pods.
#
#   tests/cluster/build.sh [FOLDER [controlplane|helm|promtool|node|pod]...]
#
# FOLDER is ${CARGO_TARGET_DIR:-target}/cluster unless given; without further words controlplane and helm are built.
# With KUBEBUILDER_ASSETS naming a folder that holds etcd, kube-apiserver and kube-controller-manager, those are
# linked, and only what that folder lacks is built. A promtool that is installed is linked too.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-${CARGO_TARGET_DIR:-target}/cluster}
parts=("${@:2}")
[ "${#parts[@]}" -gt 0 ] || parts=(controlplane helm)

kubernetes=v1.37.2
kubernetes_version="-X k8s.io/component-base/version.gitVersion=$kubernetes"
kubernetes_version+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
kubernetes_version+=" -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"

fail() {
  echo "tests/cluster/build.sh: $*" >&2
  exit 1
}

# Succeeds when the binary exists and no file it is made from is newer.
fresh() {
  local binary=$1 module=$2 package=$3 source
  [ -x "$binary" ] || return 1
  for source in "$module/$package"/*.go "$module"/go.mod "$module"/go.sum; do
    if [ "$source" -nt "$binary" ]; then return 1; fi
  done
}

need_go() {
  local module=$1 wanted have
  wanted=$(awk '$1 == "go" { print $2 }' "$module/go.mod")
  command -v go >/dev/null || fail "'go' is missing: the test control plane is built with Go $wanted or newer"
  # Asked inside the module, so that a Go which fetches newer toolchains by itself answers with the one it will use.
  have=$(cd "$module" && go env GOVERSION) || fail "'go env' does not work here; Go $wanted or newer is needed"
  have=${have#go}
  if [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
    fail "Go $have is too old: the test control plane is built with Go $wanted or newer"
  fi
}

build() {
  local name=$1 module=$2 package=$3 ldflags=$4 hint=$5 tags=${6:-} binary
  binary=$(cd "$folder" && pwd)/$name
  if fresh "$binary" "$module" "$package"; then return; fi
  need_go "$module"
  echo "building $binary (the first time takes about $hint on 2 cores)"
  # Built beside its place and moved, so that nobody ever starts half a binary.
  (cd "$module" && CGO_ENABLED=0 go build -trimpath -tags "$tags" -ldflags "$ldflags" -o "$binary.$$" "$package")
  mv -f "$binary.$$" "$binary"
}

link() {
  local name=$1 to=$2
  if [ "$(readlink "$folder/$name" || true)" != "$to" ]; then ln -sfn "$to" "$folder/$name"; fi
}

build_controlplane() {
  build controlplane tests/cluster/controlplane . "-s -w $kubernetes_version" "8 minutes"
}

controlplane() {
  local assets=${KUBEBUILDER_ASSETS:-} name
  if [ -z "$assets" ] || [ ! -x "$assets/etcd" ] || [ ! -x "$assets/kube-apiserver" ] ||
    [ ! -x "$assets/kube-controller-manager" ]; then
    build_controlplane
    for name in etcd kube-apiserver kube-controller-manager kubectl; do link "$name" controlplane; done
    return
  fi
  assets=$(cd "$assets" && pwd)
  for name in etcd kube-apiserver kube-controller-manager; do link "$name" "$assets/$name"; done
  if [ -x "$assets/kubectl" ]; then
    link kubectl "$assets/kubectl"
  else
    build_controlplane
    link kubectl controlplane
  fi
}

helm() {
  if [ -x "${KUBEBUILDER_ASSETS:-}/helm" ]; then
    link helm "$KUBEBUILDER_ASSETS/helm"
  else
    build helm tests/cluster/helm helm.sh/helm/v3/cmd/helm "-s -w" "2 minutes"
  fi
}

promtool() {
  local installed
  if installed=$(type -P promtool); then
    link promtool "$installed"
  else
    # It only reads rules here, so it needs no cloud's way of finding what to scrape.
    build promtool tests/cluster/promtool github.com/prometheus/prometheus/cmd/promtool "-s -w" "4 minutes" remove_all_sd
  fi
}

node() {
  local name
  build node tests/cluster/controlplane ./node "-s -w $kubernetes_version" "3 minutes after the control plane"
  for name in kubelet kube-proxy kube-scheduler coredns; do link "$name" node; done
}

mkdir -p "$folder"
for part in "${parts[@]}"; do
  case $part in
  controlplane) controlplane ;;
  helm) helm ;;
  promtool) promtool ;;
  node) node ;;
  pod) build pod tests/cluster/controlplane ./pod "-s -w" "10 seconds" ;;
  *) fail "there is no part '$part'; the parts are controlplane, helm, promtool, node and pod" ;;
  esac
done
