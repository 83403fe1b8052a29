package v1alpha1

// Labels and annotations that users set, as Open Service Mesh named them.
const (
	// LabelMonitoredBy on a Namespace names the mesh that it belongs to.
	LabelMonitoredBy = "openservicemesh.io/monitored-by"
	// LabelIgnore on a Namespace keeps the mesh out of it.
	LabelIgnore = "openservicemesh.io/ignore"
	// AnnotationInjection on a Namespace or a Pod is enabled or disabled.
	AnnotationInjection = "openservicemesh.io/sidecar-injection"
	// AnnotationMetrics on a Namespace has its pods scraped.
	AnnotationMetrics = "openservicemesh.io/metrics"
	// AnnotationInboundPortExclusions on a Pod are ports that are not redirected to the sidecar.
	AnnotationInboundPortExclusions = "openservicemesh.io/inbound-port-exclusion-list"
	// AnnotationOutboundPortExclusions on a Pod are destination ports that are not redirected.
	AnnotationOutboundPortExclusions = "openservicemesh.io/outbound-port-exclusion-list"
	// AnnotationOutboundRangeExclusions on a Pod are destination ranges that are not redirected.
	AnnotationOutboundRangeExclusions = "openservicemesh.io/outbound-ip-range-exclusion-list"
	// AnnotationOutboundRangeInclusions on a Pod are the only destination ranges that are redirected.
	AnnotationOutboundRangeInclusions = "openservicemesh.io/outbound-ip-range-inclusion-list"
	// AnnotationRevision on a Pod asks for a revision of the control plane, and
	// after injection tells which one injected.
	AnnotationRevision = "openservicemesh.io/revision"
	// LabelUpgrade on a Namespace or a workload keeps upgrades from restarting it where it
	// is disabled: it keeps its sidecar, and with AnnotationRevision in its template its
	// revision, until somebody restarts it.
	LabelUpgrade = "openservicemesh.io/upgrade"
	// AnnotationApproveWave on a Mesh lets a wave begin that waits for it: REVISION/WAVE.
	AnnotationApproveWave = "openservicemesh.io/approve-wave"
	// AnnotationDrainSeconds on a Pod is how long a stopping container goes on
	// serving while its callers learn that it stops; 5 when absent, 0 is not at all.
	AnnotationDrainSeconds = "openservicemesh.io/drain-seconds"
)

// Labels and annotations that the mesh writes.
const (
	// LabelProxyUUID on a Pod is Open Service Mesh's mark of an injected pod.
	LabelProxyUUID = "osm-proxy-uuid"
	// LabelInjectedBy on a Pod names the mesh whose sidecar it has.
	LabelInjectedBy = "openservicemesh.io/injected-by"
	// LabelInjectedRevision on a Pod names the revision that injected it.
	LabelInjectedRevision = "openservicemesh.io/injected-revision"
	// AnnotationSettings on a Pod is a hash of the settings that its sidecar was made with.
	AnnotationSettings = "openservicemesh.io/sidecar-settings"
	// AnnotationWave on a workload tells in which wave of which revision it was moved:
	// REVISION/WAVE.
	AnnotationWave = "openservicemesh.io/wave"
	// LabelMesh on an object names the Mesh that it belongs to.
	LabelMesh = "openservicemesh.io/mesh"
	// LabelCertificate on a Secret of a mesh, outside of the mesh's own namespaces, says what
	// its certificate is for: CertificateIngressGateway.
	LabelCertificate = "openservicemesh.io/certificate"
	// CertificateIngressGateway is the value of LabelCertificate on the Secret that a
	// MeshConfig names for an ingress gateway.
	CertificateIngressGateway = "ingress-gateway"
	// AnnotationGatewaySecret on a RoleBinding of the operator's is the name of the Secret
	// that is, or is about to be, kept in that namespace for an ingress gateway.
	AnnotationGatewaySecret = "openservicemesh.io/ingress-gateway-secret"
	// LabelRevision on an object names the MeshRevision that it belongs to.
	LabelRevision = "openservicemesh.io/mesh-revision"
	// LabelManagedBy is Kubernetes' label of the tool that manages an object.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy on the operator's objects, and its
	// field owner.
	ManagedBy = "osm-operator"
	// Finalizer on a Mesh holds its deletion until its workloads have left it.
	Finalizer = "openservicemesh.io/workloads"
)

// Names of objects in the mesh's namespace.
const (
	// MeshConfigName is the name of a mesh's MeshConfig.
	MeshConfigName = "osm-mesh-config"
	// TrustBundleConfigMap holds the mesh's roots under TrustBundleKey.
	TrustBundleConfigMap = "osm-trust-bundle"
	// TrustBundleKey is the key of the roots in TrustBundleConfigMap.
	TrustBundleKey = "ca.pem"
)
