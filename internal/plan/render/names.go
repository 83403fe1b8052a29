package render

// Names of objects that a mesh has once, whatever its revision.
const (
	// ControllerService is the stable name of the control plane.
	ControllerService = "osm-controller"
	// InjectorService is called by the mutating webhook.
	InjectorService = "osm-injector"
	// ValidatorService is called by the validating webhook.
	ValidatorService = "osm-validator"
	// ServiceAccount is the control plane's.
	ServiceAccount = "osm-controller"
	// ControllerRole is the ClusterRole that the control plane is bound to.
	ControllerRole = "osm-controller"
	// ControllerNamespaceRole is the ClusterRole that it is bound to in its own namespace.
	ControllerNamespaceRole = "osm-controller-namespace"
	// OperatorNamespaceRole is the ClusterRole that the operator is bound to in the
	// mesh's namespace.
	OperatorNamespaceRole = "osm-operator-namespace"
	// WorkloadsRole is the ClusterRole that the operator is bound to in namespaces whose
	// workloads it moves to another revision, for as long as that takes.
	WorkloadsRole = "osm-operator-workloads"
	// GatewayRole is the ClusterRole that the operator is bound to in the namespace where it
	// keeps the certificate of an ingress gateway, for as long as it does.
	GatewayRole = "osm-operator-gateway"
)

// Ports of the control plane.
const (
	// XDSPort serves delta xDS.
	XDSPort = 15128
	// ReportPort serves the report stream to the operator.
	ReportPort = 15129
	// IdentityPort gives workloads their certificates where the kubelet does not.
	IdentityPort = 15130
	// InjectorPort serves the mutating webhook.
	InjectorPort = 9090
	// HTTPPort serves health, metrics and versions.
	HTTPPort = 9091
	// DebugPort serves debug pages when they are switched on.
	DebugPort = 9092
	// ValidatorPort serves the validating webhook.
	ValidatorPort = 9093
)

// RevisionObject is the name of the MeshRevision object of a mesh's revision.
func RevisionObject(mesh, revision string) string { return mesh + "-" + revision }

// WorkloadsBinding is the name of the RoleBinding by which the operator may restart a
// mesh's workloads in a namespace.
func WorkloadsBinding(mesh string) string { return WorkloadsRole + "-" + mesh }

// GatewayBinding is the name of the RoleBinding by which the operator keeps the certificate
// of a mesh's ingress gateway in a namespace.
func GatewayBinding(mesh string) string { return GatewayRole + "-" + mesh }

// Deployment is the name of a revision's Deployment, and of its Service, budget
// and the like.
func Deployment(revision string) string { return ControllerService + "-" + revision }

// ServingSecret is the name of the Secret with a revision's serving certificate.
func ServingSecret(revision string) string { return "osm-serving-" + revision }

// IssuerSecret is the name of the Secret with a revision's issuing certificate.
func IssuerSecret(revision string) string { return "osm-issuer-" + revision }

// MutatingWebhook is the name of a mesh's MutatingWebhookConfiguration.
func MutatingWebhook(mesh string) string { return "osm-webhook-" + mesh }

// ValidatingWebhook is the name of a mesh's ValidatingWebhookConfiguration.
func ValidatingWebhook(mesh string) string { return "osm-validator-mesh-" + mesh }

// ControllerBinding is the name of a mesh's ClusterRoleBinding.
func ControllerBinding(mesh string) string { return "osm-controller-" + mesh }

// ServingNames are the DNS names that a revision's serving certificate must hold.
func ServingNames(namespace, revision string) []string {
	var names []string
	for _, service := range []string{ControllerService, InjectorService, ValidatorService, Deployment(revision)} {
		names = append(names, service+"."+namespace+".svc", service+"."+namespace+".svc.cluster.local")
	}
	return names
}
