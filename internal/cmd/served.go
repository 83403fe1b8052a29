package cmd

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/openservicemesh/osm-operator/internal/observe"
)

// served reports whether the cluster has a kind. It is asked before there is a cache,
// which can hold no kind that there is not.
func served(config *rest.Config, kind schema.GroupVersionKind) (bool, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return false, fmt.Errorf("asking what the cluster has: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, client)
	if err != nil {
		return false, fmt.Errorf("asking what the cluster has: %w", err)
	}
	return observe.Served(mapper, kind)
}
