#!/usr/bin/env bash
# Builds the container image for every architecture that this machine's toolchain can build for, and fails when one is too
# large or is packed otherwise the second time.
#
#   image/build.sh FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$1
limit=12000000 # Bytes of an image.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

built=0
for architecture in amd64 arm64; do
  status=0
  binary=$(image/binary.sh $architecture) || status=$?
  case $status in
  0) ;;
  3) continue ;;
  *) exit $status ;;
  esac
  file=$folder/stint-$version-$architecture.tar
  image/pack.sh "$binary" "$file"
  image/pack.sh "$binary" "$file.again" >/dev/null
  cmp "$file" "$file.again" || { echo "image/build.sh: the same binary was packed into another image" >&2; exit 1; }
  rm "$file.again"
  size=$(stat -c %s "$file")
  echo "$file: $size bytes (at most $limit), the binary in it $(stat -c %s "$binary")"
  [ "$size" -le $limit ] || { echo "image/build.sh: the image is too large" >&2; exit 1; }
  built=$((built + 1))
done
[ $built -gt 0 ]
