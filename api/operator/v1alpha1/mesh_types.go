package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// Mesh is one service mesh: its version, where it runs and whom it trusts. The
// operator makes the cluster follow it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=osm
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Upgrade",type=string,JSONPath=`.status.upgrade.phase`
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.proxies.pods`
// +kubebuilder:printcolumn:name="Connected",type=integer,JSONPath=`.status.proxies.connected`
// +kubebuilder:printcolumn:name="Synced",type=integer,JSONPath=`.status.proxies.synced`
// +kubebuilder:printcolumn:name="Namespace",type=string,priority=1,JSONPath=`.spec.namespace`
// +kubebuilder:printcolumn:name="Revision",type=string,priority=1,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="the name of a Mesh is at most 40 lower-case letters, digits and dashes, starting with a letter, since the names of what it owns are made from it"
type Mesh struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the administrator wants.
	// +optional
	Spec MeshSpec `json:"spec,omitempty"`
	// status is what the operator found.
	// +optional
	Status MeshStatus `json:"status,omitempty"`
}

// MeshSpec is what the administrator wants.
type MeshSpec struct {
	// version is the version of the mesh, such as v0.1.0; the operator's newest
	// when absent. A version that the operator cannot install is refused.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`
	Version string `json:"version,omitempty"`
	// namespace is where the control plane runs; osm-system when absent. It
	// cannot be changed.
	// +optional
	// +kubebuilder:default=osm-system
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.namespace cannot be changed: delete the Mesh and create it with the other namespace"
	// +kubebuilder:validation:XValidation:rule="!(self in ['kube-system','kube-public','kube-node-lease','default'])",message="spec.namespace must be a namespace of the mesh's own, not default or one of Kubernetes'"
	Namespace string `json:"namespace,omitempty"`
	// trustDomain is the SPIFFE trust domain of the mesh's identities;
	// cluster.local when absent. It cannot be changed yet.
	// +optional
	// +kubebuilder:default=cluster.local
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.trustDomain cannot be changed: identities of running workloads carry it"
	TrustDomain string `json:"trustDomain,omitempty"`
	// workloadIdentity says where the certificates of workloads come from; Auto when
	// absent. A change concerns pods that are created from then on.
	// +optional
	WorkloadIdentity WorkloadIdentity `json:"workloadIdentity,omitempty"`
	// certificateAuthority is who signs; a root kept by the operator when absent.
	// +optional
	CertificateAuthority *CertificateAuthority `json:"certificateAuthority,omitempty"`
	// controlPlane sizes the control plane.
	// +optional
	ControlPlane *ControlPlane `json:"controlPlane,omitempty"`
	// images overrides where images come from.
	// +optional
	Images *Images `json:"images,omitempty"`
	// upgrade says how changes are made that a running control plane cannot follow: of the
	// version, of an image, of the workload identity. All else takes effect where it stands.
	// +optional
	Upgrade *UpgradePolicy `json:"upgrade,omitempty"`
	// meshConfig holds those fields of the MeshConfig that are enforced: the
	// operator owns them and puts them back. All other fields of the MeshConfig
	// are its users'.
	// +optional
	MeshConfig *configv1alpha2.MeshConfigSpec `json:"meshConfig,omitempty"`
	// paused keeps the operator from writing what this Mesh asks for, and from putting
	// back what others change. It goes on reporting, and renewing certificates, without
	// which the mesh would end; a deletion is not held.
	// +optional
	Paused bool `json:"paused,omitempty"` //nolint:kubeapilinter // it is or it is not, as in other operators
	// deletionPolicy says what the deletion of the Mesh waits for. WaitForWorkloads
	// holds it while pods with the mesh's sidecar exist; Orphan does not, and such
	// pods keep their last configuration until their certificates end.
	// WaitForWorkloads when absent.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// WorkloadIdentity says where the certificates of workloads come from.
//
// +kubebuilder:validation:Enum=Auto;PodCertificate;ServiceAccountToken
type WorkloadIdentity string

const (
	// WorkloadIdentityAuto is PodCertificate where the cluster has it, and else
	// ServiceAccountToken.
	WorkloadIdentityAuto WorkloadIdentity = "Auto"
	// WorkloadIdentityPodCertificate has the kubelet make the key and ask for the
	// certificate: Kubernetes 1.37 or newer.
	WorkloadIdentityPodCertificate WorkloadIdentity = "PodCertificate"
	// WorkloadIdentityServiceAccountToken has a container in each pod make the key, and
	// prove itself to the control plane with a token that is bound to the pod.
	WorkloadIdentityServiceAccountToken WorkloadIdentity = "ServiceAccountToken"
)

// DeletionPolicy says what the deletion of a Mesh waits for.
//
// +kubebuilder:validation:Enum=WaitForWorkloads;Orphan
type DeletionPolicy string

const (
	// DeletionWaitForWorkloads holds the deletion while injected pods exist.
	DeletionWaitForWorkloads DeletionPolicy = "WaitForWorkloads"
	// DeletionOrphan deletes at once and leaves injected pods to themselves.
	DeletionOrphan DeletionPolicy = "Orphan"
)

// CertificateAuthority is who signs. Exactly one provider is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.builtIn) != has(self.vault)",message="set one provider: builtIn or vault"
type CertificateAuthority struct {
	// builtIn keeps a root in a Secret in the operator's namespace.
	// +optional
	BuiltIn *BuiltInAuthority `json:"builtIn,omitempty"`
	// vault has HashiCorp Vault certify what control planes sign with. The key of the root
	// never leaves Vault.
	// +optional
	Vault *VaultAuthority `json:"vault,omitempty"`
}

// BuiltInAuthority keeps a root in a Secret in the operator's namespace.
type BuiltInAuthority struct {
	// keyType is the kind of the root's and the intermediates' keys; ECDSAP256 when absent.
	// +optional
	// +kubebuilder:validation:Enum=ECDSAP256;ECDSAP384;RSA3072;RSA4096
	KeyType string `json:"keyType,omitempty"`
	// secret names what is brought instead of made: an existing root, or an intermediate
	// with what leads to its root, and the key. It is read until the mesh has its root; a
	// Secret that changes later is told and not followed.
	// +optional
	Secret *AuthoritySecret `json:"secret,omitempty"`
}

// AuthoritySecret names a Secret with the certificate and the key of an authority, as
// tls.crt and tls.key, or as ca.crt and private.key.
type AuthoritySecret struct {
	// name is the name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// namespace is the operator's, or the mesh's; the operator's when absent. The
	// operator reads Secrets in no other.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// VaultAuthority is a mount of HashiCorp Vault's PKI engine. Its certificate is what
// workloads trust.
//
// +kubebuilder:validation:XValidation:rule="[has(self.token), has(self.appRole), has(self.kubernetes)].exists_one(set, set)",message="set one login: token, appRole or kubernetes"
type VaultAuthority struct {
	// host is Vault's name or address, as the operator's pod can reach it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9:.-]+$`
	Host string `json:"host,omitempty"`
	// port is Vault's port; 8200 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// protocol is https or http; https when absent. Over http whoever is between can read
	// the login.
	// +optional
	// +kubebuilder:validation:Enum=http;https
	Protocol string `json:"protocol,omitempty"`
	// caBundle vouches for Vault's address, as PEM; the authorities of the operator's image
	// do when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	CABundle string `json:"caBundle,omitempty"`
	// namespace is one of Vault's namespaces; the root namespace when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*/?$`
	Namespace string `json:"namespace,omitempty"`
	// mount is where the PKI engine is mounted; pki when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*$`
	Mount string `json:"mount,omitempty"`
	// role is a role of the PKI engine, which bounds how long the certificates of control
	// planes are good; there is none when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`
	Role string `json:"role,omitempty"`
	// token logs in with a token that somebody made. It is renewed, as long as Vault has it.
	// +optional
	Token *VaultToken `json:"token,omitempty"`
	// appRole logs in with Vault's AppRole method.
	// +optional
	AppRole *VaultAppRole `json:"appRole,omitempty"`
	// kubernetes logs in with Vault's Kubernetes method, as the operator's ServiceAccount.
	// +optional
	Kubernetes *VaultKubernetes `json:"kubernetes,omitempty"`
}

// VaultToken is a token of Vault's, in a Secret.
type VaultToken struct {
	// secretKeyRef names the Secret, and the key of its data.
	// +required
	SecretKeyRef SecretKeyReference `json:"secretKeyRef,omitempty"` //nolint:kubeapilinter // an empty one is refused: its name is required
}

// VaultAppRole is a login of Vault's AppRole method.
type VaultAppRole struct {
	// mount is where the method is mounted; approle when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*$`
	Mount string `json:"mount,omitempty"`
	// roleID is the id of the role.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	RoleID string `json:"roleID,omitempty"`
	// secretID is in a Secret.
	// +required
	SecretID VaultToken `json:"secretID,omitempty"` //nolint:kubeapilinter // an empty one is refused: its name is required
}

// VaultKubernetes is a login of Vault's Kubernetes method.
type VaultKubernetes struct {
	// mount is where the method is mounted; kubernetes when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*$`
	Mount string `json:"mount,omitempty"`
	// role is the role of the method that takes the operator's ServiceAccount.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Role string `json:"role,omitempty"`
	// audience is what the token that Vault gets is good for, and what the role has to ask
	// for; vault when absent.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Audience string `json:"audience,omitempty"`
}

// SecretKeyReference names a key of a Secret.
type SecretKeyReference struct {
	// name is the name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
	// key is the key of its data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
	// namespace is the operator's, or the mesh's; the operator's when absent. The
	// operator reads Secrets in no other.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// ControlPlane sizes the control plane.
type ControlPlane struct {
	// replicas is the number of control-plane pods; 2 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	Replicas int32 `json:"replicas,omitempty"`
	// resources are each control-plane pod's; 100m CPU and 128Mi requested, 1Gi memory the limit, when absent.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// tolerations are the control-plane pods'.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// nodeSelector is the control-plane pods'.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
}

// Images overrides where images come from. An image that is absent is the
// operator's default for the version.
type Images struct {
	// osm is the image of the control plane and of the init container.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	OSM string `json:"osm,omitempty"`
	// envoy is the sidecar's image.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Envoy string `json:"envoy,omitempty"`
	// pullPolicy is for all of them; IfNotPresent when absent.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
	// pullSecrets are names of Secrets in the mesh's namespace, for the control plane.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	PullSecrets []corev1.LocalObjectReference `json:"pullSecrets,omitempty"`
}

// MeshStatus is what the operator found.
type MeshStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Ready, Progressing, Degraded, CertificateAuthorityReady, PodsCurrent
	// and IngressGatewayCertificateReady.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// version is the version that runs.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// revision is the MeshRevision that new pods get.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Revision string `json:"revision,omitempty"`
	// workloadIdentity says where the certificates of new pods come from.
	// +optional
	WorkloadIdentity WorkloadIdentity `json:"workloadIdentity,omitempty"`
	// proxies counts sidecars.
	// +optional
	Proxies *ProxyCounts `json:"proxies,omitempty"`
	// upgrade tells of the upgrade that is under way, or that failed.
	// +optional
	Upgrade *UpgradeStatus `json:"upgrade,omitempty"`
	// history tells of the last upgrades, the newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	History []UpgradeRecord `json:"history,omitempty"`
	// deletion tells what the deletion of this Mesh waits for.
	// +optional
	Deletion *DeletionStatus `json:"deletion,omitempty"`
}

// ProxyCounts counts sidecars. A count that could not be read is absent.
type ProxyCounts struct {
	// pods is the number of running pods with this mesh's sidecar.
	// +optional
	Pods *int32 `json:"pods,omitempty"`
	// connected is the number of sidecars with a stream to the control plane.
	// +optional
	Connected *int32 `json:"connected,omitempty"`
	// synced is the number of connected sidecars that acknowledged all that they were sent.
	// +optional
	Synced *int32 `json:"synced,omitempty"`
	// rejecting is the number of connected sidecars that rejected something they were sent.
	// +optional
	Rejecting *int32 `json:"rejecting,omitempty"`
}

// DeletionStatus tells what a deletion waits for.
type DeletionStatus struct {
	// blockingPods is the number of pods that still have the sidecar.
	// +optional
	BlockingPods int32 `json:"blockingPods,omitempty"`
	// pods are the first of them, as namespace/name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=317
	Pods []string `json:"pods,omitempty"`
}

// Condition types of Mesh and MeshRevision, set by the operator.
const (
	// ConditionReady is True when the current control plane serves and injects.
	ConditionReady = "Ready"
	// ConditionProgressing is True while the operator is making the cluster follow the spec.
	ConditionProgressing = "Progressing"
	// ConditionDegraded is True when something needs a person.
	ConditionDegraded = "Degraded"
	// ConditionAuthorityReady is True when the certificate authority of a Mesh is as its
	// spec says, and signs. What was signed before is not touched by its being False.
	ConditionAuthorityReady = "CertificateAuthorityReady"
	// ConditionGatewayReady is True when the Secret that the MeshConfig names for an ingress
	// gateway holds a certificate; it is absent where none is asked for.
	ConditionGatewayReady = "IngressGatewayCertificateReady"
	// ConditionPodsCurrent is False while pods run with settings that new pods no longer get,
	// which only a restart of theirs changes.
	ConditionPodsCurrent = "PodsCurrent"
)

// Reasons of the conditions of Mesh and MeshRevision, set by the operator.
const (
	// ReasonAllReady says that everything is installed, rolled out and serving.
	ReasonAllReady = "AllReady"
	// ReasonRollingOut says that the control plane is being rolled out.
	ReasonRollingOut = "RollingOut"
	// ReasonControlPlaneUnavailable says that no replica of the control plane is available.
	ReasonControlPlaneUnavailable = "ControlPlaneUnavailable"
	// ReasonApplying says that objects are still being written.
	ReasonApplying = "Applying"
	// ReasonPaused says that spec.paused keeps the operator from writing.
	ReasonPaused = "Paused"
	// ReasonUpToDate says that there is nothing to do.
	ReasonUpToDate = "UpToDate"
	// ReasonNamespaceTaken says that an older Mesh holds the namespace.
	ReasonNamespaceTaken = "NamespaceTaken"
	// ReasonUnknownVersion says that the operator cannot install the version.
	ReasonUnknownVersion = "UnknownVersion"
	// ReasonVersionUnreachable says that the version cannot be installed over the one that runs.
	ReasonVersionUnreachable = "VersionUnreachable"
	// ReasonWorkloadIdentityUnavailable says that the cluster lacks what
	// spec.workloadIdentity asks for.
	ReasonWorkloadIdentityUnavailable = "WorkloadIdentityUnavailable"
	// ReasonForeignObject says that an object of that name belongs to someone else.
	ReasonForeignObject = "ForeignObject"
	// ReasonApplyFailed says that an object could not be written.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonAuthorityReady says that the certificate authority is as the spec says.
	ReasonAuthorityReady = "AuthorityReady"
	// ReasonAuthorityUnavailable says that the authority does not answer, or cannot sign now.
	ReasonAuthorityUnavailable = "AuthorityUnavailable"
	// ReasonAuthorityRefused says that the authority does not do what is asked, as it is set up.
	ReasonAuthorityRefused = "AuthorityRefused"
	// ReasonAuthorityInvalid says that the authority, or what it signed, cannot be used.
	ReasonAuthorityInvalid = "AuthorityInvalid"
	// ReasonAuthorityUnreadable says that the Secret that the authority is in, or the login
	// for it, is not there or may not be read.
	ReasonAuthorityUnreadable = "AuthorityUnreadable"
	// ReasonAuthorityExpiring says that the root of the mesh ends soon.
	ReasonAuthorityExpiring = "AuthorityExpiring"
	// ReasonRootChangeNotFollowed says that the spec asks for another root than the one
	// that workloads trust, which goes on.
	ReasonRootChangeNotFollowed = "RootChangeNotFollowed"
	// ReasonTrustUnavailable says that the root of trust cannot be read or made.
	ReasonTrustUnavailable = "TrustUnavailable"
	// ReasonGatewayCertificateReady says that the certificate of the ingress gateway is kept.
	ReasonGatewayCertificateReady = "GatewayCertificateReady"
	// ReasonGatewayCertificateInvalid says that the MeshConfig asks for a certificate of an
	// ingress gateway that cannot be made.
	ReasonGatewayCertificateInvalid = "GatewayCertificateInvalid"
	// ReasonGatewaySecretUnwritable says that the Secret of the ingress gateway cannot be
	// read or written.
	ReasonGatewaySecretUnwritable = "GatewaySecretUnwritable"
	// ReasonPodsCurrent says that all pods have the settings that new pods get.
	ReasonPodsCurrent = "PodsCurrent"
	// ReasonRestartNeeded says that pods have older settings until they are restarted.
	ReasonRestartNeeded = "RestartNeeded"
	// ReasonProxiesRejecting says that sidecars rejected configuration.
	ReasonProxiesRejecting = "ProxiesRejecting"
	// ReasonCertificatesPending says that pods wait for certificates that cannot be issued.
	ReasonCertificatesPending = "CertificatesPending"
	// ReasonFactsUnknown says that the state of the cluster could not be read.
	ReasonFactsUnknown = "FactsUnknown"
	// ReasonUpgrading says that workloads are on their way to another revision.
	ReasonUpgrading = "Upgrading"
	// ReasonUpgradeFailed says that a step of an upgrade failed and was undone.
	ReasonUpgradeFailed = "UpgradeFailed"
	// ReasonUpgradePolicyInvalid says that spec.upgrade cannot be followed.
	ReasonUpgradePolicyInvalid = "UpgradePolicyInvalid"
	// ReasonDeleting says that the Mesh is being deleted.
	ReasonDeleting = "Deleting"
	// ReasonWaitingForWorkloads says that the deletion waits for injected pods.
	ReasonWaitingForWorkloads = "WaitingForWorkloads"
	// ReasonHealthy says that nothing needs a person.
	ReasonHealthy = "Healthy"
)

// MeshList is a list of Meshes.
//
// +kubebuilder:object:root=true
type MeshList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Mesh `json:"items"`
}
