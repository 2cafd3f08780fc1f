{{/* What the names of all objects begin with. */}}
{{- define "selvage.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-selvage" .Release.Name) (contains "selvage" .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 32 | trimSuffix "-" -}}
{{- end }}

{{/* What a selector selects: (list root component). */}}
{{- define "selvage.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: selvage
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of an object: (list root component). */}}
{{- define "selvage.labels" -}}
{{- $root := index . 0 -}}
{{ include "selvage.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: selvage
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* What a selector of one pool selects: (list root pool). */}}
{{- define "selvage.poolSelector" -}}
{{ include "selvage.selector" (list (index . 0) "worker") }}
selvage/pool: {{ (index . 1).name | quote }}
{{- end }}

{{/* The secret with the password of both Redis servers. */}}
{{- define "selvage.redisSecret" -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis" (include "selvage.fullname" .)) -}}
{{- end }}

{{/* An environment variable from a secret: (list name secret key optional). */}}
{{- define "selvage.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 | quote }}, key: {{ index . 2 }}{{ if index . 3 }}, optional: true{{ end }}}}
{{- end }}

{{/* The addresses of RabbitMQ and Redis. */}}
{{- define "selvage.addresses" -}}
{{- $name := include "selvage.fullname" . -}}
{{- $given := .Values.connections.existingSecret -}}
{{- if .Values.rabbitmq.enabled }}
{{- $user := printf "%s-rabbitmq-default-user" $name }}
{{ include "selvage.fromSecret" (list "RABBITMQ_USER" $user "username" false) }}
{{ include "selvage.fromSecret" (list "RABBITMQ_PASSWORD" $user "password" false) }}
- name: SELVAGE_AMQP_URL
  value: amqp://$(RABBITMQ_USER):$(RABBITMQ_PASSWORD)@{{ $name }}-rabbitmq:5672/%2f
{{- else }}
{{ include "selvage.fromSecret" (list "SELVAGE_AMQP_URL" $given "amqp-url" false) }}
{{- end }}
{{- if or .Values.redis.records.enabled .Values.redis.cache.enabled }}
{{ include "selvage.fromSecret" (list "REDIS_PASSWORD" (include "selvage.redisSecret" .) "password" false) }}
{{- end }}
{{- if .Values.redis.records.enabled }}
- name: SELVAGE_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ $name }}-redis:6379/0
{{- else }}
{{ include "selvage.fromSecret" (list "SELVAGE_REDIS_URL" $given "redis-url" false) }}
{{- end }}
{{- if .Values.redis.cache.enabled }}
- name: SELVAGE_CACHE_URL
  value: redis://:$(REDIS_PASSWORD)@{{ $name }}-redis-cache:6379/0
{{- else }}
{{ include "selvage.fromSecret" (list "SELVAGE_CACHE_URL" $given "cache-url" true) }}
{{- end }}
{{- end }}

{{/* Settings as environment variables: a map. */}}
{{- define "selvage.settings" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* Whether models are mounted. */}}
{{- define "selvage.mountsModels" -}}
{{- if and .Values.models.existingClaim .Values.models.image.reference }}
{{- fail "models: set existingClaim or image.reference, not both" }}
{{- end }}
{{- if or .Values.models.existingClaim .Values.models.image.reference }}yes{{ end -}}
{{- end }}

{{/* The volume of the models. */}}
{{- define "selvage.modelsVolume" -}}
{{- $image := .Values.models.image -}}
- name: models
{{- if .Values.models.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.models.existingClaim | quote }}, readOnly: true}
{{- else if eq $image.mode "volume" }}
  image: {reference: {{ $image.reference | quote }}, pullPolicy: {{ $image.pullPolicy }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end }}

{{/* The mount of the models. */}}
{{- define "selvage.modelsMount" -}}
{{- $image := .Values.models.image -}}
- name: models
  mountPath: /models
  readOnly: true
{{- if and $image.reference (eq $image.mode "volume") $image.path }}
  subPath: {{ $image.path }}
{{- end }}
{{- end }}

{{/* What the pods of gateways and workers have in common, without containers and volumes. */}}
{{- define "selvage.pod" -}}
automountServiceAccountToken: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
securityContext: {{ toJson .Values.podSecurityContext }}
{{- if and .Values.models.image.reference (eq .Values.models.image.mode "copy") }}
initContainers:
  - name: models
    image: {{ .Values.models.image.reference | quote }}
    imagePullPolicy: {{ .Values.models.image.pullPolicy }}
    command: ["cp", "-R", {{ printf "/%s/." .Values.models.image.path | quote }}, /target]
    resources:
      requests: {cpu: 100m, memory: 64Mi}
      limits: {memory: 256Mi}
    securityContext: {{ include "selvage.containerSecurity" . }}
    volumeMounts:
      - {name: models, mountPath: /target}
{{- end }}
{{- end }}

{{/* The rights of every container. */}}
{{- define "selvage.containerSecurity" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{/* Where pods run: a gateway's or a pool's values. */}}
{{- define "selvage.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{/* Spreads pods with these labels over the nodes, if there are enough of them. */}}
{{- define "selvage.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- . | nindent 8 }}
{{- end }}

{{/* The annotations of a pod with metrics: those of its values. */}}
{{- define "selvage.podAnnotations" -}}
{{- merge (dict) . (dict "prometheus.io/scrape" "true" "prometheus.io/port" "9100") | toJson -}}
{{- end }}

{{/* Pools, each with the values that all have in common. */}}
{{- define "selvage.pools" -}}
{{- $pools := list -}}
{{- $names := list -}}
{{- range .Values.pools -}}
{{- if has .name $names }}{{ fail (printf "pools: two have the name %s" .name) }}{{ end -}}
{{- $names = append $names .name -}}
{{- $pools = append $pools (mergeOverwrite (deepCopy $.Values.worker) .) -}}
{{- end -}}
{{- toJson $pools -}}
{{- end }}
