package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// meshConfig refuses entries of lists, and certificates of gateways, that mean nothing, and warns of what else cannot be
// followed: where Open Service Mesh fell back to something, so does the mesh. What was
// there before is not refused, so that it holds up no change of anything else.
func meshConfig(now, before *configv1alpha2.MeshConfig) (warnings []string, err error) {
	if now.Name != operatorv1alpha1.MeshConfigName {
		return []string{fmt.Sprintf("a mesh follows the MeshConfig called %s: this one has no effect", operatorv1alpha1.MeshConfigName)}, nil
	}
	known := meaningless(before)
	var errs []error
	for _, sentence := range meaningless(now) {
		if !slices.Contains(known, sentence) {
			errs = append(errs, fmt.Errorf("spec.%s", sentence))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	_, left := inject.ExclusionsOf(now.Spec.Traffic).Usable()
	_, warnings = mesh.SettingsFrom(mesh.DefaultSettings("", now.Namespace, ""), now.Spec)
	warnings = append(warnings, left...)
	for i, w := range warnings {
		warnings[i] = "spec." + w
	}
	return warnings, nil
}

// meaningless says of entries of lists, and of the certificate of a gateway, what is wrong
// with them.
func meaningless(o *configv1alpha2.MeshConfig) []string {
	if o == nil {
		return nil
	}
	_, lists := inject.ExclusionsOf(o.Spec.Traffic).Usable()
	for i, sentence := range lists {
		lists[i] = strings.TrimSuffix(sentence, inject.LeftOut)
	}
	return slices.Concat(mesh.CheckTLS(o.Spec.Sidecar), mesh.CheckIngressGateway(o.Spec.Certificate), lists)
}
