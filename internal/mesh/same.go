package mesh

import (
	"maps"
	"reflect"
	"slices"
)

// These compare values of a Model. Endpoints are compared by hand, since a Service may
// have thousands; a test holds the comparison to every field.

func sameService(a, b *Service) bool { return reflect.DeepEqual(a, b) }

func sameWorkload(a, b *Workload) bool { return reflect.DeepEqual(a, b) }

func sameAccounts(a, b []serviceAccount) bool { return slices.Equal(a, b) }

func sameEndpoints(a, b *Endpoints) bool {
	return a.Service == b.Service && slices.EqualFunc(a.Items, b.Items, sameEndpoint)
}

func sameEndpoint(a, b Endpoint) bool {
	return a.Address == b.Address && maps.Equal(a.Ports, b.Ports) &&
		a.Ready == b.Ready && a.Serving == b.Serving && a.Terminating == b.Terminating &&
		a.Hostname == b.Hostname && a.Node == b.Node && a.Zone == b.Zone && slices.Equal(a.ZoneHints, b.ZoneHints) && a.Pod == b.Pod
}
