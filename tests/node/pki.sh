#!/usr/bin/env bash
# Keys, certificates and kubeconfigs of the node's cluster, in FOLDER: one authority, and a client certificate for each
# component, with the user and group names that Kubernetes' own roles are bound to.
#
#   tests/node/pki.sh FOLDER NODE_NAME NODE_ADDRESS SERVICE_ADDRESS
set -euo pipefail
mkdir -p "$1"
cd "$1"
node=$2 node_address=$3 service_address=$4

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

authority() {
  key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 2 -out "$1.crt"
}

# certificate FILE SUBJECT EXTENSION...
certificate() {
  local file=$1 subject=$2
  shift 2
  key "$file"
  openssl req -new -key "$file.key" -subj "$subject" -out "$file.csr"
  openssl x509 -req -in "$file.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$file.crt" \
    -extfile <(printf '%s\n' keyUsage=digitalSignature "$@") 2>/dev/null
  rm "$file.csr"
}

client() {
  certificate "$1" "$2" extendedKeyUsage=clientAuth
  cat >"$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: node, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $PWD/ca.crt}}]
users: [{name: $1, user: {client-certificate: $PWD/$1.crt, client-key: $PWD/$1.key}}]
contexts: [{name: node, context: {cluster: node, user: $1}}]
current-context: node
YAML
}

authority ca
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
certificate apiserver /CN=kube-apiserver extendedKeyUsage=serverAuth \
  "subjectAltName=$names,IP:127.0.0.1,IP:$service_address,IP:$node_address"
client admin /O=system:masters/CN=admin
client controller-manager /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
client kubelet "/O=system:nodes/CN=system:node:$node"
# The API server to the kubelet, for logs.
client apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
openssl genrsa -out service-accounts.key 2048 2>/dev/null
