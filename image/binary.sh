#!/usr/bin/env bash
# Builds the operator, or the program BIN, as one static binary and prints where it is.
#
#   image/binary.sh ARCHITECTURE [FOLDER]
#
# ARCHITECTURE is amd64 or arm64, FOLDER cargo's target folder (${CARGO_TARGET_DIR:-target} unless given). Ends with 3 when
# this machine's toolchain cannot build for that architecture.
#
# Static by glibc's own libc.a: nothing but the Rust toolchain and a C compiler is needed, and the allocator is the one
# that the figures in the documentation were measured with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${2:-${CARGO_TARGET_DIR:-target}}
program=${BIN:-stint}

case $1 in
amd64) triple=x86_64-unknown-linux-gnu ;;
arm64) triple=aarch64-unknown-linux-gnu ;;
*) echo "image/binary.sh: '$1' is neither amd64 nor arm64" >&2; exit 2 ;;
esac

cannot() {
  echo "$1 is not built: $2" >&2
  exit 3
}

host=$(rustc -vV | sed -n 's/^host: //p')
ls "$(rustc --print sysroot)/lib/rustlib/$triple/lib"/libstd-*.rlib >/dev/null 2>&1 ||
  cannot "$1" "this Rust toolchain has no standard library for $triple (rustup target add $triple)"
compiler=cc
if [ "$triple" != "$host" ]; then
  compiler=${triple/-unknown/}-gcc
  command -v "$compiler" >/dev/null || cannot "$1" "there is no $compiler (Debian: gcc-${triple%%-*}-linux-gnu)"
fi
[ -e "$("$compiler" -print-file-name=libc.a)" ] ||
  cannot "$1" "$compiler has no static C library (Debian: libc6-dev, Fedora: glibc-static)"

# Paths of this machine are no part of the binary: elsewhere the same sources give the same bytes.
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
flags="\"-Ctarget-feature=+crt-static\", \"--remap-path-prefix=$registry=/registry\", \"--remap-path-prefix=$PWD=/stint\""
env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS cargo build --release --locked --bin "$program" --target "$triple" --target-dir "$folder" \
  --config "target.$triple.linker=\"$compiler\"" --config "target.$triple.rustflags=[$flags]" >&2
echo "$folder/$triple/release/$program"
