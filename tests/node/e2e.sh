#!/usr/bin/env bash
# Installs the chart with the project's image on a cluster that has a node, and uses it: see steps.sh for what is looked at.
#
#   tests/node/e2e.sh FOLDER       the one in which image/build.sh left the images
#   tests/node/e2e.sh --possible   only says whether it can
#
# PREVIOUS, when set, is a folder with another version (see steps.sh).
#
# On kind when a Docker engine answers and kind is installed, else on a node of its own (node.sh). Ends with 3, and says what
# is missing, where neither can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
folder=$target/node
programs=$target/cluster

# The operator as it is in the image, where `docker load` would look for it.
unpack() {
  local layer
  layer=$(tar -xOf "$image" manifest.json | sed 's/.*"Layers":\["\([^"]*\)".*/\1/')
  tar -xOf "$image" "$layer" | tar -xz -C "$folder" stint
}

# What runs in the pods of the tests, and holds those of the node.
build() {
  tests/cluster/build.sh "$programs" "$@"
  if [ ! -e "$folder/pod.tar" ] || [ "$programs/pod" -nt "$folder/pod.tar" ]; then
    IMAGE=stint.test/pod TAG=1 image/pack.sh "$programs/pod" "$folder/pod.tar"
  fi
}

on_kind() {
  build controlplane helm pod
  if kind get clusters 2>/dev/null | grep -qx stint-e2e; then
    echo "e2e: there is a kind cluster stint-e2e already; when nobody uses it, kind delete cluster --name stint-e2e" >&2
    exit 1
  fi
  trap 'kind delete cluster --name stint-e2e; trap - EXIT' EXIT
  trap 'exit 130' INT TERM
  kind create cluster --name stint-e2e --kubeconfig "$folder/kind.kubeconfig" --wait 120s
  export KUBECONFIG=$folder/kind.kubeconfig
  kind load image-archive --name stint-e2e "$folder/pod.tar"
  LOAD='kind load image-archive --name stint-e2e' tests/node/steps.sh "$image" "$folder/stint" "$folder/steps"
}

on_own_node() {
  build controlplane helm node pod
  trap 'node_down; trap - EXIT' EXIT
  trap 'exit 130' INT TERM
  node_up
  echo "a node of its own is ready, Kubernetes $("$programs/kubectl" version --client | sed -n 's/Client Version: //p')"
  # The node's programs write thousands of lines; what failed is looked for there.
  LOAD="nsenter --target $(node_init) --mount ctr --namespace k8s.io images import" \
    node_run tests/node/steps.sh "$image" "$folder/stint" "$folder/steps" || { cp "$RUN"/*.log "$folder"; echo "logs: $folder"; exit 1; }
}

. tests/node/node.sh
where=on_kind
if ! command -v kind >/dev/null || ! docker info >/dev/null 2>&1; then
  where=on_own_node
  missing=$(node_missing)
  if [ -n "$missing" ]; then
    echo "e2e: no cluster with a node can be had here. Install kind and start Docker, or, for a node of its own, add:"
    sed 's/^/  /' <<<"$missing"
    exit 3
  fi
fi
[ "$1" != --possible ] || exit 0

case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
image=$(realpath "$1/stint-$version-$architecture.tar")
[ -z "${PREVIOUS:-}" ] || PREVIOUS=$(realpath "$PREVIOUS")
export PREVIOUS=${PREVIOUS:-}
mkdir -p "$folder"
unpack
$where
