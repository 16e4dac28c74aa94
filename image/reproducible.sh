#!/usr/bin/env bash
# Builds the image twice from the sources, in two places, and fails when they differ.
#
#   image/reproducible.sh FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac
for build in first second; do
  rm -rf "${1:?}/$build"
  binary=$(image/binary.sh "$architecture" "$1/$build")
  image/pack.sh "$binary" "$1/$build.tar"
done
cmp "$1/first.tar" "$1/second.tar"
sha256sum "$1/first.tar" "$1/second.tar"
rm -r "${1:?}/first" "${1:?}/second"
