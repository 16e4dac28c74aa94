#!/usr/bin/env bash
# Builds the binary once more from nothing, in another folder, packs it, and fails when the image differs from the one of the
# binary in cargo's own folder.
#
#   image/reproducible.sh FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac
rm -rf "${1:?}"
first=$(image/binary.sh "$architecture")
second=$(image/binary.sh "$architecture" "$1/target")
image/pack.sh "$first" "$1/first.tar"
image/pack.sh "$second" "$1/second.tar"
cmp "$1/first.tar" "$1/second.tar"
echo "twice the same: $(sha256sum <"$1/first.tar" | cut -c 1-64)"
rm -r "$1/target"
