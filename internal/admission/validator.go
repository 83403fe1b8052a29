package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
)

// Validator refuses policies that can never mean anything, with a sentence that
// says what to do. What depends on other objects is accepted here and told in
// status, since objects come in any order.
type Validator struct {
	// Answered is told of each answer; it may be nil.
	Answered func(kind string, success bool)
}

// Handle implements admission.Handler.
func (v *Validator) Handle(_ context.Context, req admission.Request) admission.Response {
	response := validate(req)
	if v.Answered != nil {
		v.Answered(req.Kind.Kind, response.Allowed)
	}
	return response
}

func validate(req admission.Request) admission.Response {
	check, known := checks()[req.Kind.Kind]
	if !known {
		return admission.Allowed("not validated")
	}
	warnings, err := check(req.Object.Raw, req.OldObject.Raw)
	var undecodable *json.SyntaxError
	switch {
	case errors.As(err, &undecodable):
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("osm: decoding %s: %w", req.Kind.Kind, err))
	case err != nil:
		return admission.Errored(http.StatusUnprocessableEntity, fmt.Errorf("osm: %s %s/%s: %w", req.Kind.Kind, req.Namespace, req.Name, err))
	default:
		return admission.Allowed("").WithWarnings(warnings...)
	}
}

// check decodes an object and says what is wrong with it. before is what it was, empty
// for a new one.
type check func(raw, before []byte) (warnings []string, err error)

func checks() map[string]check {
	return map[string]check{
		"TrafficTarget":  decoded(trafficTarget),
		"HTTPRouteGroup": decoded(httpRouteGroup),
		"TCPRoute":       decoded(func(o *specsv1alpha4.TCPRoute) ([]string, error) { return nil, tcpRoute(o) }),
		"TrafficSplit":   decoded(trafficSplit),
		"Egress":         decoded(egress),
		"IngressBackend": decoded(ingressBackend),
		"UpstreamTrafficSetting": decoded(func(o *policyv1alpha1.UpstreamTrafficSetting) ([]string, error) {
			return nil, upstreamTrafficSetting(o)
		}),
		"MeshConfig": changed(meshConfig),
	}
}

func decoded[T any](f func(*T) ([]string, error)) check {
	return changed(func(now, _ *T) ([]string, error) { return f(now) })
}

// changed also tells what an object was before, nil for a new one.
func changed[T any](f func(now, before *T) ([]string, error)) check {
	return func(raw, before []byte) ([]string, error) {
		now := new(T)
		if err := json.Unmarshal(raw, now); err != nil {
			return nil, fmt.Errorf("decoding the object: %w", err)
		}
		if len(before) == 0 {
			return f(now, nil)
		}
		old := new(T)
		if err := json.Unmarshal(before, old); err != nil {
			return nil, fmt.Errorf("decoding the object as it was: %w", err)
		}
		return f(now, old)
	}
}
