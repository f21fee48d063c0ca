{{- define "flowsigma.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "flowsigma.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "flowsigma.labels" -}}
{{ include "flowsigma.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "flowsigma.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end -}}
{{- end -}}

{{- /* The name by which executors and clients reach the scheduler, and which its certificate has. */ -}}
{{- define "flowsigma.schedulerHost" -}}
{{ include "flowsigma.fullname" . }}-scheduler.{{ .Release.Namespace }}.svc
{{- end -}}

{{- /* Metadata of a pod: call with (dict "root" $ "component" NAME). */ -}}
{{- define "flowsigma.podMetadata" -}}
labels:
  {{- include "flowsigma.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What all pods have: call with (dict "root" $ "of" .Values.COMPONENT). */ -}}
{{- define "flowsigma.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "flowsigma.fullname" .root }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What all containers have: call with (dict "root" $ "of" .Values.COMPONENT). */ -}}
{{- define "flowsigma.container" -}}
image: {{ include "flowsigma.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .of.resources | nindent 2 }}
{{- with .of.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The volumes of a pod of jobs. */ -}}
{{- define "flowsigma.jobVolumes" -}}
- name: config
  secret:
    secretName: {{ .Values.jobs.secret }}
    defaultMode: 0440
- name: jobs
  configMap:
    name: {{ include "flowsigma.fullname" . }}-jobs
- name: tmp
  emptyDir:
    sizeLimit: 2Gi
- name: store
  {{- if .Values.jobs.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-store" (include "flowsigma.fullname" .)) .Values.jobs.persistence.existingClaim }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end -}}

{{- define "flowsigma.jobMounts" -}}
- name: config
  mountPath: /etc/flowsigma
  readOnly: true
- name: jobs
  mountPath: /jobs
  readOnly: true
- name: tmp
  mountPath: /tmp
- name: store
  mountPath: /var/lib/flowsigma
{{- end -}}
