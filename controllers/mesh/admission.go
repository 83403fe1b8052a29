package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/plan"
	"github.com/openservicemesh/osm-operator/internal/plan/rollout"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// Validator refuses what CEL cannot see: a version that this operator cannot
// install, or not over the one that runs, a selector that means nothing, and a namespace that an older Mesh holds. It is a courtesy: the
// reconciler holds to the same rules when nobody asked.
type Validator struct {
	Reader    client.Reader
	Catalogue release.Catalogue
}

// Handle implements admission.Handler.
func (v *Validator) Handle(ctx context.Context, req admission.Request) admission.Response {
	var m operatorv1alpha1.Mesh
	if err := json.Unmarshal(req.Object.Raw, &m); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding the Mesh: %w", err))
	}
	if !m.DeletionTimestamp.IsZero() {
		return admission.Allowed("") // whoever takes finalizers off must not be held up
	}
	if err := v.checkVersion(&m, req.OldObject.Raw); err != nil {
		return admission.Denied(fmt.Sprintf("spec.version: %v", err))
	}
	if _, err := rollout.NewPolicy(m.Spec.Upgrade); err != nil {
		return admission.Denied(fmt.Sprintf("spec.upgrade: %v", err))
	}
	if m.Spec.TrustDomain != "" {
		if _, err := identity.ParseTrustDomain(m.Spec.TrustDomain); err != nil {
			return admission.Denied(fmt.Sprintf("spec.trustDomain: %v", err))
		}
	}
	var meshes operatorv1alpha1.MeshList
	if err := v.Reader.List(ctx, &meshes); err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("listing Meshes: %w", err))
	}
	for _, other := range meshes.Items {
		if other.Name != m.Name && plan.MeshNamespace(&other) == plan.MeshNamespace(&m) {
			taken := &plan.NamespaceTakenError{Namespace: plan.MeshNamespace(&m), Holder: other.Name}
			return admission.Denied("spec.namespace: " + taken.Error())
		}
	}
	return admission.Allowed("")
}

// checkVersion says why a version cannot be had. One that is not changed is not looked at: the
// operator may have become another one since, and what else there is in the Mesh has to be
// editable all the same.
func (v *Validator) checkVersion(m *operatorv1alpha1.Mesh, old []byte) error {
	if len(old) > 0 {
		var before operatorv1alpha1.Mesh
		if err := json.Unmarshal(old, &before); err != nil {
			return fmt.Errorf("decoding the Mesh as it was: %w", err)
		}
		if before.Spec.Version == m.Spec.Version {
			return nil
		}
	}
	_, err := v.Catalogue.Resolve(m.Status.Version, m.Spec.Version)
	return err
}
