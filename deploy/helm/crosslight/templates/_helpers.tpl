{{- define "crosslight.labels" -}}
app.kubernetes.io/name: crosslight
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What a selector asks: of a component, given as (dict "root" . "component" "web"). */}}
{{- define "crosslight.selector" -}}
app.kubernetes.io/name: crosslight
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "crosslight.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "crosslight.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The pod of a process: (dict "root" . "component" … "operator" bool "migration" bool). */}}
{{- define "crosslight.pod" -}}
serviceAccountName: {{ .root.Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: data
    emptyDir: {sizeLimit: {{ .root.Values.dataSize }}}
  - name: tmp
    emptyDir: {}
  - name: secrets
    secret:
      secretName: {{ .root.Values.secret.name }}
      defaultMode: 0440
      items:
        - {key: secret_key, path: secret_key}
        - {key: metrics_token, path: metrics_token}
        - {key: database_url, path: database_url}
        - {key: redis_url, path: redis_url}
        - {key: broker_url, path: broker_url}
        - {key: aws_credentials, path: aws_credentials}
{{- if .operator }}
        - {key: operator_database_url, path: operator_database_url}
{{- end }}
{{- if .migration }}
        - {key: migration_database_url, path: migration_database_url}
{{- end }}
{{- if .root.Values.secret.masterKey }}
        - {key: master_key, path: master_key}
{{- end }}
{{- if .root.Values.secret.email }}
        - {key: email_url, path: email_url}
{{- end }}
{{- with .root.Values.models.claim }}
  - name: models
    persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end }}

{{/* What every container of ours has: the same arguments. */}}
{{- define "crosslight.container" -}}
image: {{ include "crosslight.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- include "crosslight.confined" . | nindent 2 }}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
  - {name: secrets, mountPath: /run/secrets, readOnly: true}
{{- if .root.Values.models.claim }}
  - {name: models, mountPath: /models, readOnly: true}
{{- end }}
env:
{{- range $name, $value := merge (dict) (.env | default dict) .root.Values.settings }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
  - {name: TRUSTED_PROXIES, value: {{ .root.Values.trustedProxies | quote }}}
  - {name: SECRET_KEY_FILE, value: /run/secrets/secret_key}
  - {name: METRICS_TOKEN_FILE, value: /run/secrets/metrics_token}
  - {name: DATABASE_URL_FILE, value: /run/secrets/database_url}
  - {name: REDIS_URL_FILE, value: /run/secrets/redis_url}
  - {name: BROKER_URL_FILE, value: /run/secrets/broker_url}
  - {name: AWS_SHARED_CREDENTIALS_FILE, value: /run/secrets/aws_credentials}
{{- if .operator }}
  - {name: OPERATOR_DATABASE_URL_FILE, value: /run/secrets/operator_database_url}
{{- end }}
{{- if .migration }}
  - {name: MIGRATION_DATABASE_URL_FILE, value: /run/secrets/migration_database_url}
{{- end }}
{{- if .root.Values.secret.masterKey }}
  - {name: MASTER_KEY_FILE, value: /run/secrets/master_key}
{{- end }}
{{- if .root.Values.secret.email }}
  - {name: EMAIL_URL_FILE, value: /run/secrets/email_url}
{{- end }}
{{- end }}

{{/* A worker's interpreter, and beat's, touches a file each second. */}}
{{- define "crosslight.heartbeat" -}}
startupProbe:
  exec: {command: [sh, -c, "test -e /data/run/{{ . }}.alive"]}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  exec: {command: [sh, -c, "test $(( $(date +%s) - $(stat -c %Y /data/run/{{ . }}.alive) )) -lt 60"]}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
