#!/usr/bin/env bash
# Packs the kubectl plugin for krew: an archive for every architecture that this machine's toolchain can build for, and the
# manifest that names them.
#
#   krew/package.sh FOLDER URL
#
# URL is where the archives will be downloaded from, without their names. The same sources give the same archives. Needs readelf,
# which tells whether a binary is static.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(realpath -m "$1")
url=${2%/}
case $url in
https://?*) ;;
*) echo "krew/package.sh: '$url' is no https:// address; krew downloads the archives from there" >&2; exit 2 ;;
esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
manifest=$folder/stint.yaml

mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/stint.yaml" <<EOF
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: stint
spec:
  version: v$version
  homepage: https://stint.dev
  shortDescription: Just-in-time, expiring RBAC for workloads
  description: |
    Asks for, approves, explains and ends the grants of Stint, which give a ServiceAccount narrow rights for a limited time.
    It also says who can do what until when, and judges manifests before they reach a cluster. Commands that need Stint in
    the cluster say so; lint, codes and suggest need no cluster.
  platforms:
EOF

built=0
for architecture in amd64 arm64; do
  status=0
  binary=$(BIN=kubectl-stint image/binary.sh $architecture) || status=$?
  case $status in
  0) ;;
  3) continue ;;
  *) exit $status ;;
  esac
  name=kubectl-stint-v$version-linux-$architecture.tar.gz
  linked=$(readelf -ldW "$binary")
  if [[ $linked == *INTERP* || $linked == *NEEDED* ]]; then
    echo "krew/package.sh: $binary is not static: it needs libraries, and other machines have others" >&2
    exit 1
  fi
  mkdir -p "$work/$architecture"
  install -m 0755 "$binary" "$work/$architecture/kubectl-stint"
  install -m 0755 krew/kubectl_complete-stint "$work/$architecture/kubectl_complete-stint"
  install -m 0644 LICENSE "$work/$architecture/LICENSE"
  tar --sort=name --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/$architecture" -cf - LICENSE kubectl-stint kubectl_complete-stint |
    gzip -n -9 >"$folder/$name"
  cat >>"$work/stint.yaml" <<EOF
  - selector: {matchLabels: {os: linux, arch: $architecture}}
    uri: $url/$name
    sha256: $(sha256sum <"$folder/$name" | cut -c 1-64)
    bin: kubectl-stint
    files: [{from: kubectl-stint, to: .}, {from: kubectl_complete-stint, to: .}, {from: LICENSE, to: .}]
EOF
  echo "$folder/$name: $(stat -c %s "$folder/$name") bytes"
  built=$((built + 1))
done
[ $built -gt 0 ] || { echo "krew/package.sh: this toolchain builds for no architecture" >&2; exit 1; }
mv "$work/stint.yaml" "$manifest"
echo "$manifest: to try it, kubectl krew install --manifest=FILE --archive=FILE"
