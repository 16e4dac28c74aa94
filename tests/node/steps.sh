#!/usr/bin/env bash
# Stint on a cluster that has a node, step by step as its users meet it: the chart, the image, pods, the kubelet's tokens,
# the Service before the webhook. KUBECONFIG names a cluster with nothing of Stint in it that already has the image of the
# tests, stint.test/pod:1; LOAD is a command that gives the image of a file to its node. PREVIOUS, when set, is a folder with the
# chart and the image of another version, as `make release` leaves them, from which there is an upgrade then.
#
#   tests/node/steps.sh IMAGE.tar BINARY FOLDER
#
# BINARY is the operator as it is in the image, FOLDER a place for what is written on the way. Ends with 0 if every step
# came out as it must.
set -euo pipefail
image=$1 binary=$2 folder=$3
mkdir -p "$folder"
programs=${CARGO_TARGET_DIR:-target}/cluster
passed=0 failed=0

kubectl() { "$programs/kubectl" "$@"; }
helm() { "$programs/helm" "$@"; }
alice() { kubectl --as=alice "$@"; }
# Milliseconds since 1970.
now() { date +%s%3N; }
since() { echo $(($(now) - $1)); }

# step NAME FUNCTION: runs it, with `set -e`, and says how it went. What it writes to 3 is shown, the rest if it fails.
step() {
  local began status
  began=$(now)
  set +e
  (
    set -e
    "$2"
  ) 3>"$folder/said" >"$folder/output" 2>&1
  status=$?
  set -e
  if [ $status = 0 ]; then
    passed=$((passed + 1))
    printf 'ok   %6.1f s  %s' "$(since "$began")e-3" "$1"
  else
    failed=$((failed + 1))
    printf 'FAIL %6.1f s  %s' "$(since "$began")e-3" "$1"
  fi
  sed 's/^/; /' "$folder/said" | tr -d '\n'
  echo
  [ $status = 0 ] || tail -n 12 "$folder/output" | sed 's/^/                 /'
  return 0
}

# eventually SECONDS CMD...: until it succeeds.
eventually() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || { echo "not within its time: $*"; return 1; }
    sleep 0.1
  done
}

# What the webhook says of a request for an account that does not exist. Only Stint can answer that way.
bad='{"apiVersion":"stint.dev/v1alpha1","kind":"WorkloadAccess","metadata":{"name":"refused"},"spec":{
"serviceAccountRef":{"name":"nobody"},"duration":"1m","reason":"to be refused",
"rules":[{"apiGroups":[""],"resources":["configmaps"],"resourceNames":["none"],"verbs":["get"]}]}}'
refused() {
  local answer
  answer=$(kubectl create --raw '/apis/stint.dev/v1alpha1/namespaces/payments/workloadaccesses?dryRun=All' -f - <<<"$bad" 2>&1) && return 1
  [[ $answer == *WA-ACCOUNT-MISSING* ]] || { echo "$answer"; return 1; }
}

# reviewed CMD...: refusals without a break while CMD runs. Says how many there were, and fails if one is missing.
reviewed() {
  local asked=0 missing=0 status=0
  "$@" &
  while kill -0 $! 2>/dev/null; do
    asked=$((asked + 1))
    refused || missing=$((missing + 1))
  done
  wait $! || status=$?
  echo "$asked reviews meanwhile, $missing failed" >&3
  [ "$status" = 0 ] && [ $asked -gt 0 ] && [ $missing = 0 ]
}

# grant NAME DURATION [FIELD]: asked for by Alice; returns when it is active.
grant() {
  alice apply -f - <<YAML
apiVersion: stint.dev/v1alpha1
kind: WorkloadAccess
metadata: {name: $1, namespace: payments}
spec:
  serviceAccountRef: {name: migrator}
  rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [$setting], verbs: [get]}]
  duration: $2
  reason: a test
  ${3:-}
YAML
  kubectl wait "wa/$1" -n payments --for=condition=Active --timeout=30s
}
setting=billing-settings
path=/api/v1/namespaces/payments/configmaps/$setting

reason() { kubectl get wa "$1" -n payments -o 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}'; }
ended() {
  kubectl wait "wa/$1" -n payments --for=condition=Active=false --timeout=60s
  [ "$(reason "$1")" = "$2" ] || { echo "$1 ended as $(reason "$1"), not $2"; return 1; }
}

# A pod of the account that asks without end. It prints each change of what it is answered.
watcher() { kubectl logs watcher -n payments; }
sees() { [ "$(watcher | tail -n 1 | cut -d ' ' -f 2-)" = "$1" ]; }
# Milliseconds from a time of the API to the watcher's last change.
lag() { echo $(($(date -d "$(watcher | tail -n 1 | cut -d ' ' -f 1)" +%s%3N) - $(date -d "$1" +%s%3N))); }
not_after() { kubectl get wa "$1" -n payments -o 'jsonpath={.status.notAfter}'; }

workload='automountServiceAccountToken: true
      serviceAccountName: migrator
      restartPolicy: Never
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      terminationGracePeriodSeconds: 1
      containers:
      - name: work
        image: stint.test/pod:1
        imagePullPolicy: Never
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}'

in_stint() { kubectl -n stint-system "$@"; }
ready_replicas() { in_stint get deployment stint -o 'jsonpath={.status.readyReplicas}'; }
two_ready() { [ "$(ready_replicas)" = 2 ]; }
holder() { in_stint get lease stint -o 'jsonpath={.spec.holderIdentity}'; }
led() { [ -n "$(holder)" ]; }
replicas() { in_stint get pods -l app.kubernetes.io/name=stint -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}'; }

image_loaded() {
  $LOAD "$image"
  echo "$(stat -c %s "$image") bytes" >&3
}

# The bar: the first refusal by the installed webhook at most 10 s after `helm install` begins.
installed() {
  local began
  kubectl create namespace payments
  kubectl create namespace stint-system
  kubectl label namespace stint-system pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted
  began=$(now)
  helm install stint charts/stint --namespace stint-system --wait --timeout 120s &
  eventually 120 refused
  since "$began" >"$folder/first-refusal"
  wait $!
}

first_refusal() {
  local took
  took=$(cat "$folder/first-refusal")
  [ "$(kubectl get validatingwebhookconfiguration stint -o 'jsonpath={.webhooks[0].clientConfig.service.name}')" = stint-webhook ]
  echo "$took ms after helm install began (at most 10000)" >&3
  [ "$took" -le 10000 ]
}

both_ready() {
  eventually 30 two_ready
  eventually 30 led
}

restricted() {
  in_stint get namespace stint-system -o 'jsonpath={.metadata.labels}' | grep -q '"pod-security.kubernetes.io/enforce":"restricted"'
  # The label is in force: another pod is refused for what the operator's are not.
  if in_stint run privileged --image=none --privileged --dry-run=server 2>"$folder/refusal"; then return 1; fi
  grep -q 'violates PodSecurity "restricted' "$folder/refusal"
  two_ready
}

# pod NAME NAMESPACE LABELS WORD OBJECT: one that asks without end; see tests/cluster/controlplane/pod. It is never ready, so that
# no Service sends anything to it, whatever its labels are.
pod() {
  kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: $2, labels: $3}
spec:
      ${workload/serviceAccountName: migrator/serviceAccountName: default}
        args: [$4, "$5"]
        readinessProbe: {tcpSocket: {port: 1}}
YAML
}
hears() { [ "$(kubectl logs "$1" -n "$2" | tail -n 1 | cut -d ' ' -f 2-)" = "$3" ]; }

# What the chart's policy lets through and what it does not, by what pods can reach: a stranger's, and one with the labels of the
# operator's. kind's network enforces policies too.
network_policy() {
  local replica host selected='{app.kubernetes.io/name: stint, app.kubernetes.io/instance: stint}'
  admin_from() { helm upgrade stint charts/stint --namespace stint-system --reuse-values --set-json "networkPolicy.adminFrom=$1"; }
  replica=$(in_stint get pods -l app.kubernetes.io/name=stint -o 'jsonpath={.items[0].status.podIP}')
  host=$(in_stint get pods -l app.kubernetes.io/name=stint -o 'jsonpath={.items[0].status.hostIP}')
  # However it ends, for some have the labels of the operator's pods.
  trap 'kubectl delete pod -n payments --now webhook admin kubelet; in_stint delete pod --now inside-api inside-kubelet' EXIT
  pod webhook payments '{}' dial "$replica:9443"
  pod admin payments '{}' dial "$replica:8080"
  pod inside-api stint-system "$selected" watch /version
  pod kubelet payments '{}' dial "$host:10250"
  pod inside-kubelet stint-system "$selected" dial "$host:10250"
  eventually 30 hears webhook payments open
  eventually 30 hears admin payments open
  eventually 30 hears inside-api stint-system 200
  eventually 30 hears kubelet payments open
  eventually 30 hears inside-kubelet stint-system shut # It may go to the API server and to DNS, and nowhere else.
  admin_from '[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]'
  eventually 30 hears admin payments shut
  hears webhook payments open
  admin_from '[]'
  eventually 30 hears admin payments open
  echo "what it does not allow is refused, both ways" >&3
}

team_set_up() {
  kubectl apply -f tests/demo/setup.yaml
  kubectl apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: watcher, namespace: payments}
spec:
      $workload
        args: [watch, $path]
YAML
  kubectl wait pod/watcher -n payments --for=condition=Ready --timeout=60s
  eventually 20 sees 403
}

used_by_a_job() {
  kubectl apply -f - <<YAML
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: payments}
spec:
  backoffLimit: 0
  template:
    spec:
      $workload
        args: [wait, $path]
YAML
  grant migrate 10m 'until: {apiVersion: batch/v1, kind: Job, name: migrate}'
  kubectl wait job/migrate -n payments --for=condition=Complete --timeout=60s
  kubectl logs job/migrate -n payments | tail -n 1 | grep ' 200$'
  ended migrate Completed
  eventually 20 sees 403
  watcher | grep ' 200$'
}

leader_replaced() {
  local leader end began
  grant due 15s
  eventually 20 sees 200
  end=$(not_after due)
  leader=$(holder)
  began=$(now)
  in_stint delete pod "${leader%%_*}" --wait=false
  another() { [ -n "$(holder)" ] && [ "$(holder)" != "$leader" ]; }
  eventually 60 another
  echo "another replica leads after $(since "$began") ms" >&3
  ended due Expired
  eventually 20 sees 403
  echo "the grant ended $(lag "$end") ms after its end" >&3
  grant decided 1m
  alice patch wa decided -n payments --type=merge -p '{"spec":{"revoked":true}}'
  ended decided Revoked
  eventually 60 two_ready
}

drained() {
  local node began
  node=$(in_stint get pods -l app.kubernetes.io/name=stint -o 'jsonpath={.items[0].spec.nodeName}')
  # One replica goes; the other may not before the first is back, and here it has nowhere to come back to.
  drain() {
    ! kubectl drain "$node" --ignore-daemonsets --pod-selector app.kubernetes.io/name=stint --timeout=15s 2>"$folder/drain"
  }
  reviewed drain
  cat "$folder/drain"
  grep -q "would violate the pod's disruption budget" "$folder/drain"
  [ "$(ready_replicas)" = 1 ]
  kubectl uncordon "$node"
  began=$(now)
  eventually 60 two_ready
  echo "two replicas again $(since "$began") ms after uncordon" >&3
}

# As the runbook of StintCertificateExpiring says.
certificate_rotated() {
  local before
  # Until when the certificate is valid that each replica serves.
  served() {
    local pod
    for pod in $(replicas); do
      kubectl get --raw "/api/v1/namespaces/stint-system/pods/$pod:8080/proxy/metrics" | grep '^stint_certificate_not_after'
    done | sort -u
  }
  before=$(served)
  [ "$(wc -l <<<"$before")" = 1 ]
  anew() {
    in_stint delete secret stint-webhook-certificate
    # Published first, and served by each replica ten seconds after it noticed; a watch that is cut costs a minute.
    exchanged() { [ "$(served | wc -l)" = 1 ] && [ "$(served)" != "$before" ]; }
    eventually 90 exchanged
  }
  reviewed anew
}

# lives_through NAME CMD...: a grant made before CMD has the same binding after it, no answer was another meanwhile, and no
# review was lost.
lives_through() {
  local name=$1 uid before binding
  shift
  grant "$name" 10m
  eventually 20 sees 200
  uid=$(kubectl get wa "$name" -n payments -o 'jsonpath={.metadata.uid}')
  binding() { kubectl get rolebinding -n payments -l "stint.dev/grant=$uid" -o 'jsonpath={.items[0].metadata.uid}'; }
  binding=$(binding)
  before=$(watcher | wc -l)
  reviewed "$@"
  [ "$(binding)" = "$binding" ]
  [ "$(reason "$name")" = Active ]
  [ "$(watcher | wc -l)" = "$before" ]
  both_ready
}

upgraded() {
  helm package charts/stint --version 0.1.1 --destination "$folder"
  lives_through live \
    helm upgrade stint "$folder/stint-0.1.1.tgz" --namespace stint-system --set log.level=debug --wait --timeout 120s
}

helm_test() {
  helm test stint --namespace stint-system --timeout 90s
}

# The working set of each, as the kubelet sees it and a limit counts it.
memory() {
  local node
  node=$(in_stint get pods -l app.kubernetes.io/name=stint -o 'jsonpath={.items[0].spec.nodeName}')
  measured() {
    kubectl get --raw "/api/v1/nodes/$node/proxy/metrics/resource" |
      awk '/^container_memory_working_set_bytes{container="stint"/ { printf "%.1f MiB\n", $2 / 1048576 }' >"$folder/memory"
    [ "$(wc -l <"$folder/memory")" = 2 ]
  }
  eventually 60 measured # That of a pod that has gone is listed for a while.
  cat "$folder/memory" >&3
}

# From the start of the process to /readyz, the median of five, with nothing live and nobody else running.
start_to_ready() {
  local server args times=() process began
  alice patch wa live -n payments --type=merge -p '{"spec":{"revoked":true}}'
  ended live Revoked
  in_stint scale deployment stint --replicas=0
  none() { [ -z "$(replicas)" ]; }
  eventually 60 none
  server=$(kubectl config view --minify --raw -o 'jsonpath={.clusters[0].cluster.server}')
  kubectl config view --minify --raw --flatten -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >"$folder/ca.crt"
  cat >"$folder/operator.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "$server", certificate-authority: ca.crt}}]
users: [{name: u, user: {token: $(in_stint create token stint)}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
YAML
  # As the chart starts it, but at ports that are free here: 19443 and 18080.
  mapfile -t args < <(in_stint get deployment stint -o 'jsonpath={range .spec.template.spec.containers[0].args[*]}{@}{"\n"}{end}' |
    sed 's/listen=.*:/listen=127.0.0.1:1/')
  # Asked without a program that would have to start each time.
  ready() {
    exec 4<>/dev/tcp/127.0.0.1/18080 || return 1
    printf 'GET /readyz HTTP/1.1\r\nhost: stint\r\nconnection: close\r\n\r\n' >&4
    read -r -t 2 answer <&4
    exec 4>&-
    [[ $answer == *' 200 '* ]]
  }
  for _ in 1 2 3 4 5; do
    began=$(now)
    KUBECONFIG=$folder/operator.kubeconfig "$binary" "${args[@]}" >"$folder/operator.log" 2>&1 &
    process=$!
    # A step that fails must not leave it behind: it is in no namespace of processes of the node.
    # Its number is written into the trap, which outlives the variable.
    # shellcheck disable=SC2064
    trap "kill $process 2>/dev/null || true" EXIT
    until (ready) 2>/dev/null; do
      kill -0 $process
      [ "$(since "$began")" -lt 30000 ]
    done
    times+=("$(since "$began")")
    kill $process
    wait $process || true
    trap - EXIT
  done
  echo "${times[*]} ms, the median $(printf '%s\n' "${times[@]}" | sort -n | sed -n 3p) ms" >&3
  in_stint scale deployment stint --replicas=2
  both_ready
}

uninstalled() {
  local end
  grant left 20s
  eventually 20 sees 200
  end=$(not_after left)
  helm uninstall stint --namespace stint-system --wait --timeout 90s
  none() { [ -z "$(replicas)" ]; }
  eventually 60 none
  sees 200 # It is still live: nothing of Stint runs, and it has time left.
  eventually 90 sees 403
  echo "the grant ended $(lag "$end") ms after its end, by its Job's deadline" >&3
  kubectl get wa left -n payments # The record stays.
  gone() { [ -z "$(kubectl get rolebindings,roles,jobs -n payments -l stint.dev/grant -o name)" ]; }
  eventually 30 gone
}

upgraded_from_previous() {
  local chart
  chart=$(echo "$PREVIOUS"/stint-*.tgz)
  $LOAD "$(echo "$PREVIOUS"/stint-*-"$(kubectl get nodes -o 'jsonpath={.items[0].status.nodeInfo.architecture}')".tar)"
  helm install stint "$chart" --namespace stint-system --wait --timeout 120s
  eventually 30 refused
  lives_through old helm upgrade stint charts/stint --namespace stint-system --wait --timeout 120s
  in_stint get pods -o 'jsonpath={.items[*].spec.containers[*].image}' >&3
  # What the version before began, this one ends.
  alice patch wa old -n payments --type=merge -p '{"spec":{"revoked":true}}'
  ended old Revoked
  eventually 20 sees 403
  helm uninstall stint --namespace stint-system --wait --timeout 90s
}

step 'image loaded' image_loaded
step 'helm install --wait, from the chart with its own values' installed
[ $failed = 0 ] || exit 1
step 'the first refusal comes through the Service' first_refusal
step 'both replicas are ready, and one leads' both_ready
step 'the pods run under PodSecurity restricted' restricted
step 'the NetworkPolicy holds' network_policy
step 'a policy, and a pod that watches its own access' team_set_up
step 'a Job uses its grant with its pod'"'"'s token, and access ends with it' used_by_a_job
step 'the pod of the leader is deleted, another leads, a grant ends on time' leader_replaced
step 'the node is drained: one replica stays, and both come back' drained
step 'the certificate is made anew, and reviews go on' certificate_rotated
step 'helm upgrade with a live grant (the same chart as version 0.1.1)' upgraded
step 'helm test' helm_test
step 'memory of each replica' memory
step 'start to ready of the binary' start_to_ready
step 'helm uninstall with a live grant, which still ends' uninstalled
[ -z "${PREVIOUS:-}" ] || step "helm upgrade from the version in $PREVIOUS with a live grant" upgraded_from_previous
echo "$passed passed, $failed failed"
[ $failed = 0 ]
