#!/usr/bin/env bash
# Gathers what is published of one version: the chart, the images, the plugin, the plain YAML, the bill of materials, checksums of
# all of them, and a statement of what they were made from. Nothing is sent anywhere: docs/release.md says what to do with it.
#
#   release/pack.sh FOLDER TARGET
#
# TARGET is the folder in which `make image sbom krew manifests` left its files. Fails when something is in no commit, or when chart
# and programs are not of one version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(realpath -m "$1")
target=$(realpath "$2")
chart=charts/stint

fail() {
  echo "release/pack.sh: $*" >&2
  exit 1
}

[ -z "$(git status --porcelain)" ] || fail "there are changes that are in no commit; commit them, or put them away"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for field in version appVersion; do
  of_chart=$(sed -n "s/^$field: //p" "$chart/Chart.yaml")
  [ "$of_chart" = "$version" ] || fail "$field in $chart/Chart.yaml is $of_chart, version in Cargo.toml is $version; make them the same"
done

rm -rf "$folder"
mkdir -p "$folder"
"$target/cluster/helm" package "$chart" --destination "$folder" >/dev/null
cp "$target/image/stint-$version"-*.tar "$target/krew/kubectl-stint-v$version"-*.tar.gz "$folder"
cp "$target/krew/stint.yaml" "$folder/krew.yaml"
cp "$target/image/stint.cdx.json" "$folder/stint-$version.cdx.json"
cp "$target/manifests/stint.yaml" "$folder/stint-$version.yaml"

# https://slsa.dev/spec/v1.0/provenance; cosign makes an attestation of it. BUILDER, an address, says who answers for the machine.
cat >"$folder/provenance.json" <<JSON
{"buildDefinition": {
  "buildType": "https://stint.dev/docs/release#how-it-is-built",
  "externalParameters": {"target": "release", "version": "$version"},
  "internalParameters": {"rustc": "$(rustc -V)", "helm": "$("$target/cluster/helm" version --template '{{.Version}}')"},
  "resolvedDependencies": [
    {"name": "source", "digest": {"gitCommit": "$(git rev-parse HEAD)"}},
    {"name": "Cargo.lock", "digest": {"sha256": "$(sha256sum <Cargo.lock | cut -c 1-64)"}}]},
 "runDetails": {"builder": {"id": "${BUILDER:-https://stint.dev/docs/release#by-hand}"}}}
JSON
(cd "$folder" && sha256sum -- * >"$target/SHA256SUMS" && mv "$target/SHA256SUMS" .)
echo "$folder, version $version:"
sed 's/^/  /' "$folder/SHA256SUMS"
