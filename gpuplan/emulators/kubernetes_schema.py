"""The fields of Kubernetes objects: which there are, and how lists of them are merged. Version 1.36, as far as the
emulator keeps objects of these types.

Read by `kubernetes_fields` and `kubernetes_patches` for merging, and by `kubernetes_admission` for unknown fields.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

_TYPES = """
StatefulSet = metadata:ObjectMeta spec:StatefulSetSpec status:*
Pod = metadata:ObjectMeta spec:PodSpec status:*
Service = metadata:ObjectMeta spec:ServiceSpec status:*
PersistentVolumeClaim = metadata:ObjectMeta spec:PersistentVolumeClaimSpec status:*
Secret = data:{} immutable metadata:ObjectMeta stringData:{} type
ConfigMap = binaryData:{} data:{} immutable metadata:ObjectMeta
Job = metadata:ObjectMeta spec:JobSpec status:*
Deployment = metadata:ObjectMeta spec:DeploymentSpec status:*
ReplicaSet = metadata:ObjectMeta spec:ReplicaSetSpec status:*
Node = metadata:ObjectMeta spec:NodeSpec status:*
Event = metadata:ObjectMeta *
Namespace = metadata:ObjectMeta spec:NamespaceSpec status:*
ResourceQuota = metadata:ObjectMeta spec:ResourceQuotaSpec status:*
Lease = metadata:ObjectMeta spec:LeaseSpec
ServiceAccount = automountServiceAccountToken imagePullSecrets:[LocalObjectReference] metadata:ObjectMeta
  secrets:[ObjectReference]name
ObjectMeta = annotations:{} creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers:[=]
  generateName generation labels:{} managedFields:[*] name namespace ownerReferences:[OwnerReference]uid
  resourceVersion selfLink uid
StatefulSetSpec = minReadySeconds ordinals:StatefulSetOrdinals
  persistentVolumeClaimRetentionPolicy:StatefulSetPersistentVolumeClaimRetentionPolicy podManagementPolicy replicas
  revisionHistoryLimit selector:LabelSelector serviceName template:PodTemplateSpec
  updateStrategy:StatefulSetUpdateStrategy volumeClaimTemplates:[PersistentVolumeClaim]
PodSpec = activeDeadlineSeconds affinity:Affinity automountServiceAccountToken containers:[Container]name
  dnsConfig:* dnsPolicy enableServiceLinks ephemeralContainers:[*]name hostAliases:[HostAlias]ip hostIPC hostNetwork
  hostPID hostUsers hostname hostnameOverride imagePullSecrets:[LocalObjectReference]name
  initContainers:[Container]name nodeName nodeSelector:{!} os:* overhead:{} preemptionPolicy priority
  priorityClassName readinessGates:[*] resourceClaims:[PodResourceClaim]name resources:ResourceRequirements
  restartPolicy runtimeClassName schedulerName schedulingGates:[*]name schedulingGroup:*
  securityContext:PodSecurityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace
  subdomain terminationGracePeriodSeconds tolerations:[Toleration]
  topologySpreadConstraints:[TopologySpreadConstraint]topologyKey,whenUnsatisfiable volumes:[Volume]name
ServiceSpec = allocateLoadBalancerNodePorts clusterIP clusterIPs:[] externalIPs:[] externalName
  externalTrafficPolicy healthCheckNodePort internalTrafficPolicy ipFamilies:[] ipFamilyPolicy loadBalancerClass
  loadBalancerIP loadBalancerSourceRanges:[] ports:[ServicePort]port,protocol publishNotReadyAddresses selector:{!}
  sessionAffinity sessionAffinityConfig:* trafficDistribution type
PersistentVolumeClaimSpec = accessModes:[] dataSource:TypedLocalObjectReference dataSourceRef:*
  resources:VolumeResourceRequirements selector:LabelSelector storageClassName volumeAttributesClassName volumeMode
  volumeName
JobSpec = activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions managedBy
  manualSelector maxFailedIndexes parallelism podFailurePolicy:* podReplacementPolicy selector:LabelSelector
  successPolicy:* suspend template:PodTemplateSpec ttlSecondsAfterFinished
DeploymentSpec = minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector:LabelSelector
  strategy:* template:PodTemplateSpec
ReplicaSetSpec = minReadySeconds replicas selector:LabelSelector template:PodTemplateSpec
NodeSpec = configSource:* externalID podCIDR podCIDRs:[=] providerID taints:[Taint] unschedulable
Taint = effect key timeAdded value
NamespaceSpec = finalizers:[]
ResourceQuotaSpec = hard:{} scopeSelector:* scopes:[]
LeaseSpec = acquireTime holderIdentity leaseDurationSeconds leaseTransitions preferredHolder renewTime strategy
!LocalObjectReference = name
!ObjectReference = apiVersion fieldPath kind name namespace resourceVersion uid
!OwnerReference = apiVersion blockOwnerDeletion controller kind name uid
StatefulSetOrdinals = start
StatefulSetPersistentVolumeClaimRetentionPolicy = whenDeleted whenScaled
!LabelSelector = matchExpressions:[LabelSelectorRequirement] matchLabels:{}
PodTemplateSpec = metadata:ObjectMeta spec:PodSpec
StatefulSetUpdateStrategy = rollingUpdate:RollingUpdateStatefulSetStrategy type
Affinity = nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAntiAffinity
Container = args:[] command:[] env:[EnvVar]name envFrom:[*] image imagePullPolicy lifecycle:* livenessProbe:Probe
  name ports:[ContainerPort]containerPort,protocol readinessProbe:Probe resizePolicy:[*]
  resources:ResourceRequirements restartPolicy restartPolicyRules:[*] securityContext:SecurityContext
  startupProbe:Probe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices:[*]devicePath
  volumeMounts:[VolumeMount]mountPath workingDir
HostAlias = hostnames:[] ip
PodResourceClaim = name resourceClaimName resourceClaimTemplateName
ResourceRequirements = claims:[ResourceClaim]name limits:{} requests:{}
PodSecurityContext = appArmorProfile:* fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser
  seLinuxChangePolicy seLinuxOptions:* seccompProfile:* supplementalGroups:[] supplementalGroupsPolicy sysctls:[*]
  windowsOptions:*
Toleration = effect key operator tolerationSeconds value
TopologySpreadConstraint = labelSelector:LabelSelector matchLabelKeys:[] maxSkew minDomains nodeAffinityPolicy
  nodeTaintsPolicy topologyKey whenUnsatisfiable
Volume = awsElasticBlockStore:* azureDisk:* azureFile:* cephfs:* cinder:* configMap:ConfigMapVolumeSource csi:*
  downwardAPI:* emptyDir:EmptyDirVolumeSource ephemeral:* fc:* flexVolume:* flocker:* gcePersistentDisk:* gitRepo:*
  glusterfs:* hostPath:HostPathVolumeSource image:* iscsi:* name nfs:*
  persistentVolumeClaim:PersistentVolumeClaimVolumeSource photonPersistentDisk:* portworxVolume:* projected:*
  quobyte:* rbd:* scaleIO:* secret:SecretVolumeSource storageos:* vsphereVolume:*
ServicePort = appProtocol name nodePort port protocol targetPort
!TypedLocalObjectReference = apiGroup kind name
VolumeResourceRequirements = limits:{} requests:{}
LabelSelectorRequirement = key operator values:[]
RollingUpdateStatefulSetStrategy = maxUnavailable partition
NodeAffinity = preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
  requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
PodAffinity = preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
  requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
PodAntiAffinity = preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
  requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
EnvVar = name value valueFrom:EnvVarSource
Probe = exec:ExecAction failureThreshold grpc:GRPCAction httpGet:HTTPGetAction initialDelaySeconds periodSeconds
  successThreshold tcpSocket:TCPSocketAction terminationGracePeriodSeconds timeoutSeconds
ContainerPort = containerPort hostIP hostPort name protocol
SecurityContext = allowPrivilegeEscalation appArmorProfile:* capabilities:Capabilities privileged procMount
  readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seLinuxOptions:* seccompProfile:* windowsOptions:*
VolumeMount = mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr
ResourceClaim = name request
ConfigMapVolumeSource = defaultMode items:[KeyToPath] name optional
EmptyDirVolumeSource = medium sizeLimit
HostPathVolumeSource = path type
PersistentVolumeClaimVolumeSource = claimName readOnly
SecretVolumeSource = defaultMode items:[KeyToPath] optional secretName
PreferredSchedulingTerm = preference:NodeSelectorTerm weight
!NodeSelector = nodeSelectorTerms:[NodeSelectorTerm]
WeightedPodAffinityTerm = podAffinityTerm:PodAffinityTerm weight
PodAffinityTerm = labelSelector:LabelSelector matchLabelKeys:[] mismatchLabelKeys:[] namespaceSelector:LabelSelector
  namespaces:[] topologyKey
EnvVarSource = configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector fileKeyRef:FileKeySelector
  resourceFieldRef:ResourceFieldSelector secretKeyRef:SecretKeySelector
ExecAction = command:[]
GRPCAction = port service
HTTPGetAction = host httpHeaders:[HTTPHeader] path port scheme
TCPSocketAction = host port
Capabilities = add:[] drop:[]
KeyToPath = key mode path
!NodeSelectorTerm = matchExpressions:[NodeSelectorRequirement] matchFields:[NodeSelectorRequirement]
!ConfigMapKeySelector = key name optional
!ObjectFieldSelector = apiVersion fieldPath
!FileKeySelector = key optional path volumeName
!ResourceFieldSelector = containerName divisor resource
!SecretKeySelector = key name optional
HTTPHeader = name value
NodeSelectorRequirement = key operator values:[]
"""
"""One type a line, `!` before one that is owned as a whole. A field may have a type behind it: `*` is anything, `{}` a
map, `{!}` one owned as a whole, `[T]` a list owned as a whole, `[T]key,key` one whose items are told apart by these
keys, `[=]` a set."""


@dataclass(frozen=True, slots=True)
class Field:
    """What may be in a field. `type` is that of the value or of a list's items; empty: a scalar, or anything."""

    type: str = ""
    is_list: bool = False
    is_map: bool = False
    keys: Sequence[str] = ()
    """What tells the items of a list apart; empty: it is owned and replaced as a whole."""
    is_set: bool = False
    is_atomic: bool = False

    @property
    def merge_key(self) -> str:
        """What strategic merge patches go by."""
        return self.keys[0] if self.keys else ""


SCALAR = Field()
ANYTHING = Field("*")


@cache
def types() -> Mapping[str, Mapping[str, Field]]:
    """Fields by type and name."""
    lines = re.sub(r"\n +", " ", _TYPES.strip()).splitlines()
    atomic = {line[1:].partition(" ")[0] for line in lines if line.startswith("!")}
    table: dict[str, Mapping[str, Field]] = {}
    for line in lines:
        name, _, fields = line.lstrip("!").partition(" = ")
        pairs = (field.partition(":") for field in fields.split() if field != "*")
        table[name] = {field: _field(type, atomic) for field, _, type in pairs}
    return table


def field_of(type: str, name: str) -> Field:
    """What is known of a field; one that is not known may hold anything."""
    if name in ("apiVersion", "kind"):
        return SCALAR
    return types().get(type, {}).get(name, ANYTHING)


def is_declared(type: str, name: str) -> bool:
    """Whether a type has a field; types that are not known here have every one."""
    known = types().get(type)
    return known is None or not known or name in known or name in ("apiVersion", "kind")


def unknown_fields(value: object, type: str, path: str = "") -> list[str]:
    """Dotted paths of the fields that a value should not have."""
    found: list[str] = []
    if isinstance(value, dict):
        for name, item in value.items():
            where = f"{path}.{name}" if path else name
            if not is_declared(type, name):
                found.append(where)
                continue
            field = field_of(type, name)
            if field.type in ("", "*") or field.is_map:
                continue
            items = enumerate(item) if field.is_list and isinstance(item, list) else ()
            for index, inner in items:
                found += unknown_fields(inner, field.type, f"{where}[{index}]")
            if not field.is_list:
                found += unknown_fields(item, field.type, where)
    return found


def _field(text: str, atomic: set[str]) -> Field:
    match = re.fullmatch(r"\[(?P<item>[^\]]*)\](?P<keys>.*)", text)
    if match is None:
        if text in ("{}", "{!}"):
            return Field(is_map=True, is_atomic=text == "{!}")
        return Field(text, is_atomic=text in atomic)
    if match["item"] == "=":
        return Field(is_list=True, is_set=True)
    keys = tuple(match["keys"].split(",")) if match["keys"] else ()
    return Field(match["item"], is_list=True, keys=keys, is_atomic=not keys)
