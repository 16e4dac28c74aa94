{{- define "stint.fullname" -}}
{{- if contains "stint" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-stint" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "stint.labels" -}}
{{- with .Values.commonLabels }}
{{- toYaml . }}
{{ end }}
{{- include "stint.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "stint.selectorLabels" -}}
app.kubernetes.io/name: stint
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stint.image" -}}
{{ with (.Values.global.imageRegistry | default .Values.image.registry) }}{{ . }}/{{ end }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The user name of the operator's ServiceAccount. */}}
{{- define "stint.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "stint.fullname" . }}
{{- end }}

{{/* How the API server reaches a path of the webhook. The caBundle is the operator's to write and is never rendered. */}}
{{- define "stint.clientConfig" -}}
{{- if .root.Values.webhook.url -}}
url: {{ .root.Values.webhook.url }}{{ .path }}
{{- else -}}
service:
  name: {{ include "stint.fullname" .root }}-webhook
  namespace: {{ .root.Release.Namespace }}
  path: {{ .path }}
  port: 443
{{- end -}}
{{- end }}

{{/* Reading of the kinds that `until` may refer to. */}}
{{- define "stint.untilRules" -}}
{{- range .Values.until.kinds }}
- apiGroups: [{{ contains "/" .apiVersion | ternary (splitList "/" .apiVersion | first) "" | quote }}]
  resources: [{{ .resource | quote }}]
  verbs: [get, list, watch]
{{- end }}
{{- end }}

{{/* Labels of the Service that is scraped, and of no other. */}}
{{- define "stint.metricsLabels" -}}
{{ include "stint.labels" . }}
app.kubernetes.io/component: metrics
{{- end }}

{{/* Whether an object of a kind that the cluster may not know is rendered: `skipIfMissing`, `failIfMissing` or `alwaysRender`. */}}
{{- define "stint.renders" -}}
{{- if .what.enabled -}}
{{- $known := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if or $known (eq .what.renderMode "alwaysRender") -}}
true
{{- else if eq .what.renderMode "failIfMissing" -}}
{{- fail (printf "this cluster knows no %s (monitoring.coreos.com/v1): install the Prometheus operator first, or set renderMode to skipIfMissing" .kind) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Of the pod of `helm test`, which no Service and no NetworkPolicy of the operator selects. */}}
{{- define "stint.testLabels" -}}
{{- with .Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
app.kubernetes.io/name: stint-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* A duration such as `1m30s` in milliseconds. */}}
{{- define "stint.milliseconds" -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $unit := get (dict "h" 3600000 "m" 60000 "s" 1000 "ms" 1) (regexFind "[a-z]+" .) -}}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | int64) $unit) -}}
{{- end -}}
{{ $sum }}
{{- end }}

{{/* How cert-manager makes private keys. */}}
{{- define "stint.privateKey" -}}
{{- $algorithm := .Values.webhook.certificate.keyAlgorithm -}}
algorithm: {{ splitList "-" $algorithm | first }}
{{- if hasPrefix "ECDSA-P" $algorithm }}
size: {{ trimPrefix "ECDSA-P" $algorithm }}
{{- end }}
rotationPolicy: Always
{{- end }}

{{/* The Secret with the webhook's certificate. cert-manager gets another one than the operator: what was the operator's is not taken over. */}}
{{- define "stint.certificateSecret" -}}
{{- $certificate := .Values.webhook.certificate -}}
{{- if $certificate.secretName -}}
{{ $certificate.secretName }}
{{- else if eq $certificate.mode "secret" -}}
{{ fail "webhook.certificate.secretName is required in mode `secret`: name the Secret with tls.crt, tls.key and ca.crt" }}
{{- else -}}
{{ include "stint.fullname" . }}-webhook-{{ ternary "tls" "certificate" (eq $certificate.mode "cert-manager") }}
{{- end -}}
{{- end }}

{{/* Annotations of the webhook configurations. By one of them cert-manager's CA injector publishes the authority. */}}
{{- define "stint.webhookAnnotations" -}}
{{- $annotations := deepCopy .Values.webhook.annotations }}
{{- if eq .Values.webhook.certificate.mode "cert-manager" }}
{{- $_ := set $annotations "cert-manager.io/inject-ca-from" (printf "%s/%s-webhook" .Release.Namespace (include "stint.fullname" .)) }}
{{- end }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Secrets with credentials for registries. */}}
{{- define "stint.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets | uniq }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* Address families of a Service. */}}
{{- define "stint.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
