{{- define "convd.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "convd.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "convd.selector" -}}
app.kubernetes.io/name: convd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "convd.metadata" -}}
name: {{ include "convd.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "convd.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* What the container may do: nothing beyond computing and answering. */ -}}
{{- define "convd.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* A value of `settings` as convd reads it: numbers that YAML made floats are written out. */ -}}
{{- define "convd.settings" -}}
{{- range $name, $value := .Values.settings }}
- name: CONVD_{{ upper $name }}
  value: {{ if kindIs "float64" $value }}{{ if eq (floor $value) $value }}{{ int64 $value | quote }}{{ else }}{{ $value | quote }}{{ end }}{{ else }}{{ $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{- /* Mean seconds that requests waited for an executor over the last minute. */ -}}
{{- define "convd.queueQuery" -}}
{{- $pods := printf "namespace=%q,pod=~\"%s-.*\"" .Release.Namespace (include "convd.name" .) -}}
sum(rate(convd_queue_duration_seconds_sum{ {{- $pods -}} }[1m])) / (sum(rate(convd_queue_duration_seconds_count{ {{- $pods -}} }[1m])) > 0) or vector(0)
{{- end }}

{{- define "convd.target" -}}
apiVersion: apps/v1
kind: Deployment
name: {{ include "convd.name" . }}
{{- end }}

{{- define "convd.behavior" -}}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownSeconds }}
scaleUp:
  # Pods are ready at once, so nothing is gained by waiting.
  stabilizationWindowSeconds: 0
  policies:
    - { type: Percent, value: 100, periodSeconds: 15 }
    - { type: Pods, value: 4, periodSeconds: 15 }
{{- end }}
