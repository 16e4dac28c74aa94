#!/usr/bin/env bash
# Builds what the tests with a real control plane need, from Go modules alone: etcd, kube-apiserver,
# kube-controller-manager and kubectl (one multi-call binary), and helm. Only when asked for: promtool, which tests the
# chart's alerts; reports, the CRDs of the two APIs in which the guard reports; monitoring, those of the Prometheus operator;
# cert-manager, its controllers and CA injector in
# one binary, and its CRDs in FOLDER/cert-manager-crds; oldest, the same control plane in the oldest version of Kubernetes that
# the chart takes, in FOLDER/oldest; node, which makes it a cluster with a node (kubelet, kube-proxy, kube-scheduler and CoreDNS,
# one multi-call binary too, from the same module so that both share what is compiled; and kube-router, which enforces
# NetworkPolicies there), and pod, which runs in its pods.
#
#   tests/cluster/build.sh [FOLDER [controlplane|helm|promtool|reports|monitoring|cert-manager|oldest|node|pod]...]
#
# FOLDER is ${CARGO_TARGET_DIR:-target}/cluster unless given; without further words controlplane and helm are built.
# With KUBEBUILDER_ASSETS naming a folder that holds etcd, kube-apiserver and kube-controller-manager, those are
# linked, and only what that folder lacks is built. A promtool that is installed is linked too.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-${CARGO_TARGET_DIR:-target}/cluster}
parts=("${@:2}")
[ "${#parts[@]}" -gt 0 ] || parts=(controlplane helm)

# Linker flags that tell the programs their version, from a file of modules.
kubernetes_version() {
  local version minor
  version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$1")
  minor=${version#v1.}
  echo "-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1" \
    "-X k8s.io/component-base/version.gitMinor=${minor%%.*} -X k8s.io/client-go/pkg/version.gitVersion=$version"
}

fail() {
  echo "tests/cluster/build.sh: $*" >&2
  exit 1
}

# Succeeds when the binary exists and no file it is made from is newer.
fresh() {
  local binary=$1 module=$2 package=$3 versions=$4 source
  [ -x "$binary" ] || return 1
  for source in "$module/$package"/*.go "$module/$versions.mod" "$module/$versions.sum"; do
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
  local name=$1 module=$2 package=$3 ldflags=$4 hint=$5 tags=${6:-} versions=${7:-go} binary
  binary=$(cd "$folder" && pwd)/$name
  if fresh "$binary" "$module" "$package" "$versions"; then return; fi
  need_go "$module"
  echo "building $binary (the first time takes about $hint on 2 cores)"
  # Built beside its place and moved, so that nobody ever starts half a binary.
  (cd "$module" && CGO_ENABLED=0 go build -modfile="$versions.mod" -trimpath -tags "$tags" -ldflags "$ldflags" -o "$binary.$$" "$package")
  mv -f "$binary.$$" "$binary"
}

link() {
  local name=$1 to=$2
  if [ "$(readlink "$folder/$name" || true)" != "$to" ]; then ln -sfn "$to" "$folder/$name"; fi
}

build_controlplane() {
  local module=tests/cluster/controlplane
  build controlplane "$module" . "-s -w $(kubernetes_version "$module/go.mod")" "8 minutes"
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

oldest() {
  local module=tests/cluster/controlplane name
  mkdir -p "$folder/oldest"
  build oldest/controlplane "$module" . "-s -w $(kubernetes_version "$module/oldest.mod")" "6 minutes" "" oldest
  for name in etcd kube-apiserver kube-controller-manager kubectl; do link "oldest/$name" controlplane; done
  link oldest/helm ../helm
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
  elif [ -x "$folder/promtool" ] || promtool_of_debian; then
    :
  else
    # It only reads rules here, so it needs no cloud's way of finding what to scrape.
    build promtool tests/cluster/promtool github.com/prometheus/prometheus/cmd/promtool "-s -w" "4 minutes" remove_all_sd
  fi
}

# The promtool of Debian's package, which is taken out of it and not installed: much sooner there than built.
promtool_of_debian() {
  local work done=1
  if ! type -P apt-get dpkg-deb >/dev/null; then return 1; fi
  work=$(mktemp -d)
  if (cd "$work" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1 &&
    "$work/usr/bin/promtool" --version >/dev/null 2>&1; then
    mv "$work/usr/bin/promtool" "$folder/promtool"
    done=0
  fi
  rm -rf "$work"
  return $done
}

# Copies the CRDs of a Go module, the files of a pattern, if the module is the one with this checksum.
crds() {
  local module=$1 sum=$2 files=$3 to=$folder/$4 found
  if [ -d "$to" ] && [ ! tests/cluster/build.sh -nt "$to" ]; then return; fi
  need_go tests/cluster/controlplane
  # From a folder without a go.mod: nothing is built, so none of its dependencies are needed.
  found=$(cd "$folder" && go mod download -json "$module") || fail "cannot download the Go module $module: $found"
  [ "$(sed -n 's/.*"Sum": "\(.*\)".*/\1/p' <<<"$found")" = "$sum" ] || fail "the Go module $module is not the one with the sum $sum"
  rm -rf "$to" "$to.$$"
  mkdir -p "$to.$$"
  # The pattern is not quoted, so that the shell fills it in.
  install -m 0644 "$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$found")"/$files "$to.$$"
  mv "$to.$$" "$to"
}

reports() {
  crds github.com/openreports/reports-api@v0.2.1 "h1:g9KS3yle9Y1elmww4TK9EkD1rl6inIaiIJPX6e+u680=" "config/crd/*reports.yaml" reports/openreports.io
  crds github.com/kyverno/kyverno@v1.19.1 "h1:/MkgFii3/VlQfKR1JpC9tVwNNVNQTt2S4U6qCsafsTU=" "config/crds/policyreport/*reports.yaml" reports/wgpolicyk8s.io
}

monitoring() {
  crds github.com/prometheus-operator/prometheus-operator@v0.85.0 "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=" "example/prometheus-operator-crd/*.yaml" monitoring
}

cert_manager() {
  local module=tests/cluster/cert-manager path=github.com/cert-manager/cert-manager version sum
  read -r version sum < <(awk -v path="$path" '$1 == path && $2 !~ "/" { print $2, $3 }' "$module/go.sum")
  build cert-manager "$module" . "-s -w -X $path/pkg/util.AppVersion=$version" "3 minutes"
  # Those of ACME are for its own issuers.
  crds "$path@$version" "$sum" "deploy/crds/cert-manager.io_*.yaml" cert-manager-crds
}

node() {
  local module=tests/cluster/controlplane name
  build node "$module" ./node "-s -w $(kubernetes_version "$module/go.mod")" "3 minutes after the control plane"
  for name in kubelet kube-proxy kube-scheduler coredns; do link "$name" node; done
  build kube-router tests/cluster/kube-router github.com/cloudnativelabs/kube-router/v2/cmd/kube-router "-s -w" "3 minutes"
}

mkdir -p "$folder"
for part in "${parts[@]}"; do
  case $part in
  controlplane) controlplane ;;
  helm) helm ;;
  promtool) promtool ;;
  reports) reports ;;
  monitoring) monitoring ;;
  cert-manager) cert_manager ;;
  oldest) oldest ;;
  node) node ;;
  pod) build pod tests/cluster/controlplane ./pod "-s -w" "10 seconds" ;;
  *) fail "there is no part '$part'; the parts are controlplane, helm, promtool, reports, monitoring, cert-manager, oldest, node and pod" ;;
  esac
done
