#!/usr/bin/env bash
# Writes the bill of materials of the operator, CycloneDX in JSON, and checks it against what the binary is linked from.
#
#   image/sbom.sh FILE.cdx.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$(realpath -m "$1")
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
version=0.5.9
triple=$(rustc -vV | sed -n 's/^host: //p')

tool=$tools/bin/cargo-cyclonedx
if [ "$("$tool" cyclonedx --version 2>/dev/null)" != "cargo-cyclonedx-cyclonedx $version" ]; then
  cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "cargo-cyclonedx@$version"
  rm -rf "$tools/build"
fi

# It writes beside the Cargo.toml of each package here, and nowhere else; that of the tests is thrown away. The time is that of the commit, and the path of this machine is left out: the same
# sources give the same file.
mkdir -p "$(dirname "$out")"
trap 'rm -f stint-sbom.json tests/support/stint-sbom.json' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0) "$tool" cyclonedx --quiet --format json --spec-version 1.5 --target "$triple" --override-filename stint-sbom
sed "s|path+file://$PWD|path+file:///stint|" stint-sbom.json >"$out"

# Every package that ends up in the binary, of Cargo.lock and no other, is named with its version.
linked=$(cargo tree --locked --target "$triple" --edges normal,no-proc-macro --prefix none --format '{p}' |
  awk 'NR > 1 { sub("^v", "", $2); print $1 "@" $2 }' | sort -u)
listed=$(grep -o '"purl": "pkg:cargo/[^"]*"' "$out" | sed 's/.*cargo\///; s/["?#].*//' | sort -u)
lacking=$(comm -23 <(echo "$linked") <(echo "$listed"))
if [ -z "$linked" ] || [ -n "$lacking" ]; then
  printf 'image/sbom.sh: not in the bill of materials:\n%s\n' "$lacking" >&2
  exit 1
fi
echo "$out: $(wc -l <<<"$listed") packages, with all $(wc -l <<<"$linked") that the binary is linked from"
