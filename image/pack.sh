#!/usr/bin/env bash
# Packs a static binary into a container image, with no daemon and nothing but tar, gzip, sha256sum and readelf.
#
#   image/pack.sh BINARY FILE.tar
#
# IMAGE and TAG, when set, are its name: stint.dev/stint, which the chart asks for, and the version unless they are.
# The file is an OCI image layout for `ctr images import` and `kind load image-archive`, with the manifest.json beside it
# that `docker load` reads. FROM scratch: the binary, and the names of the user that it runs as. No certificates: the API
# server is the only server that it talks to, by the CA that every pod gets mounted.
#
# The same binary gives the same bytes: names are sorted, owners and times are 0.
set -euo pipefail
binary=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=${IMAGE:-stint.dev/stint}:${TAG:-$version}
program=$(basename "$binary")
case $(od -An -tu2 -j18 -N2 "$binary" | tr -d ' ') in
62) architecture=amd64 ;;
183) architecture=arm64 ;;
*) echo "image/pack.sh: $binary is for no architecture that is known here" >&2; exit 1 ;;
esac
headers=$(readelf -lW "$binary")
if [[ $headers == *INTERP* ]]; then
  echo "image/pack.sh: $binary is not static: it asks for a loader, and the image has none" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/layout/blobs/sha256
mkdir -p "$blobs" "$(dirname "$out")"
# Without `./` before the names: kind looks for manifest.json by exactly that name.
archive() { (cd "$1" && tar --sort=name --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$2" -- *); }
sum() { sha256sum <"$1" | cut -c 1-64; }
# Moves a file among the blobs; `digest` and `size` then say what it is.
blob() {
  digest=$(sum "$1")
  size=$(stat -c %s "$1")
  mv "$1" "$blobs/$digest"
}

# The layer.
mkdir -p "$work/tree/etc"
install -m 0755 "$binary" "$work/tree/$program"
(cd "$work/tree/etc" && echo 'stint:x:65532:65532:stint:/:/sbin/nologin' >passwd && echo 'stint:x:65532:' >group)
chmod 0755 "$work/tree/etc"
chmod 0644 "$work/tree/etc"/*
archive "$work/tree" "$work/layer"
unpacked=$(sum "$work/layer")
gzip -n -9 <"$work/layer" >"$work/layer.gz"
blob "$work/layer.gz"
layer=$digest layer_size=$size

# The configuration.
revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
cat >"$work/config" <<JSON
{"created":"1970-01-01T00:00:00Z","architecture":"$architecture","os":"linux",
"config":{"User":"65532:65532","Entrypoint":["/$program"],"WorkingDir":"/","Labels":{
"org.opencontainers.image.title":"$program",
"org.opencontainers.image.description":"$(sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml)",
"org.opencontainers.image.version":"$version",
"org.opencontainers.image.revision":"$revision",
"org.opencontainers.image.licenses":"$(sed -n 's/^license = "\(.*\)"/\1/p' Cargo.toml)"}},
"rootfs":{"type":"layers","diff_ids":["sha256:$unpacked"]},
"history":[{"created":"1970-01-01T00:00:00Z","created_by":"image/pack.sh"}]}
JSON
blob "$work/config"
config=$digest config_size=$size

# The manifest, and the two indexes that lead to it.
oci=application/vnd.oci.image
cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",
"config":{"mediaType":"$oci.config.v1+json","digest":"sha256:$config","size":$config_size},
"layers":[{"mediaType":"$oci.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
blob "$work/manifest"
cat >"$work/layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"$oci.index.v1+json","manifests":[
{"mediaType":"$oci.manifest.v1+json","digest":"sha256:$digest","size":$size,
"platform":{"architecture":"$architecture","os":"linux"},
"annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"$version"}}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
echo "[{\"Config\":\"blobs/sha256/$config\",\"RepoTags\":[\"$name\"],\"Layers\":[\"blobs/sha256/$layer\"]}]" \
  >"$work/layout/manifest.json"

archive "$work/layout" "$out.new"
mv "$out.new" "$out"
echo "$name $architecture sha256:$digest"
