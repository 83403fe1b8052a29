// Package observe reads the cluster for the operator and returns plain facts: how
// far a control plane is rolled out, which pods have a sidecar, what the proxies
// told. A fact that could not be read is an error or unknown, never zero.
package observe

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// ControlPlane is how far a control plane's Deployment is rolled out.
type ControlPlane struct {
	// Found says that the Deployment exists.
	Found bool
	// Observed says that the Deployment's controller has seen its newest spec; the
	// counts speak of an older one otherwise.
	Observed bool
	// Wanted, Updated, Total and Available count pods; those that end are in Total where
	// the cluster counts them (Kubernetes 1.35).
	Wanted, Updated, Total, Available int32
	// Stuck is why the roll-out does not go on, empty if it does.
	Stuck string
}

// RolledOut reports whether all wanted pods run the newest spec and are available,
// and no other pod is left.
func (c ControlPlane) RolledOut() bool {
	return c.Found && c.Observed && c.Updated == c.Wanted && c.Total == c.Wanted && c.Available == c.Wanted
}

// ReadControlPlane reads a Deployment.
func ReadControlPlane(ctx context.Context, r client.Reader, key client.ObjectKey) (ControlPlane, error) {
	var d appsv1.Deployment
	if err := r.Get(ctx, key, &d); err != nil {
		if apierrors.IsNotFound(err) {
			return ControlPlane{}, nil
		}
		return ControlPlane{}, fmt.Errorf("reading Deployment %s: %w", key, err)
	}
	c := ControlPlane{
		Found:     true,
		Observed:  d.Status.ObservedGeneration >= d.Generation,
		Wanted:    1,
		Updated:   d.Status.UpdatedReplicas,
		Total:     d.Status.Replicas,
		Available: d.Status.AvailableReplicas,
	}
	if d.Spec.Replicas != nil {
		c.Wanted = *d.Spec.Replicas
	}
	// One that ends still answers those that are connected to it, such as the API server,
	// in the old way.
	if ending := d.Status.TerminatingReplicas; ending != nil {
		c.Total += *ending
	}
	for _, condition := range d.Status.Conditions {
		failing := condition.Type == appsv1.DeploymentProgressing && condition.Status == corev1.ConditionFalse ||
			condition.Type == appsv1.DeploymentReplicaFailure && condition.Status == corev1.ConditionTrue
		if failing {
			c.Stuck = condition.Reason + ": " + condition.Message
		}
	}
	return c, nil
}

// Replica is one pod of a control plane and where its report stream is.
type Replica struct {
	Name, Address string
}

// ReadReplicas lists the control-plane pods that the EndpointSlices of a Service
// name and that serve, with the address of the named port.
func ReadReplicas(ctx context.Context, r client.Reader, service client.ObjectKey, port int32) ([]Replica, error) {
	var list discoveryv1.EndpointSliceList
	err := r.List(ctx, &list, client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name})
	if err != nil {
		return nil, fmt.Errorf("listing the replicas of %s: %w", service, err)
	}
	seen := map[string]Replica{}
	for i := range list.Items {
		slice := &list.Items[i]
		for _, e := range slice.Endpoints {
			serving := e.Conditions.Serving == nil || *e.Conditions.Serving
			if !serving || e.TargetRef == nil || len(e.Addresses) == 0 {
				continue
			}
			// A dual-stack pod is in two slices; either address does.
			if _, ok := seen[e.TargetRef.Name]; !ok || slice.AddressType == discoveryv1.AddressTypeIPv4 {
				seen[e.TargetRef.Name] = Replica{Name: e.TargetRef.Name, Address: net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(port)))}
			}
		}
	}
	out := make([]Replica, 0, len(seen))
	for _, replica := range seen {
		out = append(out, replica)
	}
	slices.SortFunc(out, func(a, b Replica) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// ReadPodCertificates reports whether the cluster gives pods their certificates, and
// distributes roots: both kinds are served.
func ReadPodCertificates(mapper meta.RESTMapper) (bool, error) {
	for _, kind := range []string{"PodCertificateRequest", "ClusterTrustBundle"} {
		served, err := Served(mapper, certificatesv1.SchemeGroupVersion.WithKind(kind))
		if err != nil || !served {
			return false, err
		}
	}
	return true, nil
}

// HasTrustBundles reports whether the cluster distributes roots to pods.
func HasTrustBundles(mapper meta.RESTMapper) (bool, error) {
	return Served(mapper, certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"))
}

// Served reports whether the cluster has a kind.
func Served(mapper meta.RESTMapper, kind schema.GroupVersionKind) (bool, error) {
	_, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking whether the cluster has %s: %w", kind.Kind, err)
	}
	return true, nil
}

// ReadTrustBundle reads the published roots of a mesh from its namespace; nil if there
// are none, or if what is there is not the mesh's. Before the operator has bound itself
// in the namespace it may not look, and has published nothing there either.
func ReadTrustBundle(ctx context.Context, r client.Reader, mesh, namespace string) ([]byte, error) {
	key := client.ObjectKey{Namespace: namespace, Name: operatorv1alpha1.TrustBundleConfigMap}
	var c corev1.ConfigMap
	if err := r.Get(ctx, key, &c); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading ConfigMap %s: %w", key, err)
	}
	if c.Labels[operatorv1alpha1.LabelMesh] != mesh {
		return nil, nil
	}
	return []byte(c.Data[operatorv1alpha1.TrustBundleKey]), nil
}
