// Package endpoints makes load assignments: a model of the mesh and the endpoint
// sets that clusters ask for go in, one resource for each comes out, the same for
// the same endpoints in whatever order.
//
// It is a path of its own: an endpoint that comes or goes costs one resource, and
// neither listeners nor routes nor clusters are looked at. The package decides
// nothing about policy; which ServiceAccounts count, and where the caller runs, is
// said by the set.
package endpoints

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

// Name returns the name of the load assignment of these sets.
func Name(sets []ir.EndpointSet) string { return resource.EndpointsName(sets) }

// Build returns the load assignment of these sets. A set without endpoints gives one
// without endpoints, so that its callers hear at once that nobody is there.
func Build(m *mesh.Model, sets []ir.EndpointSet) (*resource.Resource, error) {
	byAddress := map[netip.AddrPort]target{}
	passthrough := false
	for _, s := range sets {
		for _, t := range choose(m, s) {
			byAddress[t.at] = t
		}
		passthrough = passthrough || s.Passthrough
	}
	n := Name(sets)
	a, err := assignment(n, byAddress, passthrough)
	if err != nil {
		return nil, fmt.Errorf("making the endpoints %s: %w", n, err)
	}
	return resource.New(a, n)
}

// target is an endpoint that may be called.
type target struct {
	at       netip.AddrPort
	endpoint *mesh.Endpoint
	// workload is the pod behind it, nil if there is none.
	workload *mesh.Workload
}

// choose returns the endpoints of a set that are called now.
func choose(m *mesh.Model, s ir.EndpointSet) []target {
	key := mesh.Key{Namespace: s.Service.Namespace, Name: s.Service.Name}
	service, endpoints := m.Services[key], m.Endpoints[key]
	if service == nil || endpoints == nil {
		return nil
	}
	return near(service, s, available(service, eligible(m, endpoints, s)))
}

// eligible returns the endpoints that the set means, whether they serve or not.
func eligible(m *mesh.Model, endpoints *mesh.Endpoints, s ir.EndpointSet) []target {
	var accounts []string
	if s.ServiceAccounts != "" {
		accounts = strings.Split(s.ServiceAccounts, ",")
	}
	var out []target
	for i := range endpoints.Items {
		e := &endpoints.Items[i]
		port, ok := e.Ports[s.Service.Port]
		if !ok {
			continue
		}
		w, known := workload(m, e)
		switch {
		case !known:
		case s.MeshedOnly && !meshed(w):
		case accounts != nil && (w == nil || !slices.Contains(accounts, w.ServiceAccount.String())):
		default:
			out = append(out, target{at: netip.AddrPortFrom(e.Address, port), endpoint: e, workload: w})
		}
	}
	return out
}

// workload returns the pod behind an endpoint, nil for an endpoint without one in
// the mesh's namespaces. It is not known while the model has another pod of that
// name, or none yet: such an endpoint waits, since nobody can tell whether it must be
// called by mTLS.
func workload(m *mesh.Model, e *mesh.Endpoint) (w *mesh.Workload, known bool) {
	if m.Namespaces[e.Pod.Namespace] == nil {
		return nil, true
	}
	w = m.Workloads[e.Pod]
	return w, w != nil && slices.Contains(w.Addresses, e.Address)
}

func meshed(w *mesh.Workload) bool { return w != nil && w.Meshed }

// available returns those that are ready, or where none is, those that still serve
// while they end: better than nobody.
func available(service *mesh.Service, all []target) []target {
	if service.PublishNotReady {
		return all
	}
	ready := keep(all, func(t target) bool { return t.endpoint.Ready })
	if len(ready) > 0 {
		return ready
	}
	return keep(all, func(t target) bool { return t.endpoint.Serving && t.endpoint.Terminating })
}

// near returns those that the service wants called from where the caller runs. Only
// internalTrafficPolicy Local leaves nobody rather than somebody farther away.
func near(service *mesh.Service, s ir.EndpointSet, all []target) []target {
	sameNode := func(t target) bool { return t.endpoint.Node == s.Node }
	if s.Node != "" && service.LocalOnly {
		return keep(all, sameNode)
	}
	if s.Node != "" && service.PreferSameNode {
		if here := keep(all, sameNode); len(here) > 0 {
			return here
		}
	}
	if s.Zone == "" {
		return all
	}
	if here := inZone(service, s.Zone, all); len(here) > 0 {
		return here
	}
	return all
}

// inZone follows zone hints where every endpoint has them, as kube-proxy does; without
// them a service that prefers its zone gets the endpoints that run there.
func inZone(service *mesh.Service, zone string, all []target) []target {
	unhinted := func(t target) bool { return len(t.endpoint.ZoneHints) == 0 }
	if !slices.ContainsFunc(all, unhinted) {
		return keep(all, func(t target) bool { return slices.Contains(t.endpoint.ZoneHints, zone) })
	}
	if service.PreferSameZone || service.PreferSameNode {
		return keep(all, func(t target) bool { return t.endpoint.Zone == zone })
	}
	return nil
}

func keep(all []target, want func(target) bool) []target {
	var out []target
	for _, t := range all {
		if want(t) {
			out = append(out, t)
		}
	}
	return out
}

// assignment writes the endpoints down in the order of their addresses.
func assignment(cluster string, byAddress map[netip.AddrPort]target, passthrough bool) (*endpointv3.ClusterLoadAssignment, error) {
	targets := make([]target, 0, len(byAddress))
	for _, t := range byAddress {
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b target) int {
		return cmp.Or(a.at.Addr().Compare(b.at.Addr()), cmp.Compare(a.at.Port(), b.at.Port()))
	})
	a := &endpointv3.ClusterLoadAssignment{ClusterName: cluster}
	metadata := map[told]protoreflect.RawFields{}
	endpoints := make([]*endpointv3.LbEndpoint, 0, len(targets)+1)
	for _, t := range targets {
		e, err := lbEndpoint(t, metadata)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	if passthrough {
		endpoints = append(endpoints, passthroughEndpoint())
	}
	if len(endpoints) > 0 {
		a.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}}
	}
	return a, nil
}

// told is what is told of endpoints that are alike: in metadata, which the pods of one
// workload share.
type told struct {
	account                   identity.ServiceAccount
	meshed                    bool
	namespace, kind, workload string
}

func toldOf(w *mesh.Workload) told {
	return told{account: w.ServiceAccount, meshed: w.Meshed, namespace: w.Namespace, kind: w.OwnerKind, workload: w.OwnerName}
}

// metadata says of an endpoint in the mesh whose certificate it must present; the
// cluster's transports are matched with that. What made the pod is for metrics.
func (t told) metadata() (protoreflect.RawFields, error) {
	out := map[string]*structpb.Struct{
		name.WorkloadMetadata: text(name.NamespaceKey, t.namespace, name.KindKey, t.kind, name.NameKey, t.workload),
	}
	if t.meshed {
		out[name.TransportMetadata] = text(name.MeshKey, t.account.String(), name.MeshedKey, "true")
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&endpointv3.LbEndpoint{Metadata: &corev3.Metadata{FilterMetadata: out}})
	if err != nil {
		return nil, fmt.Errorf("saying that an endpoint is %s: %w", t.account, err)
	}
	return raw, nil
}

// nobody is the name of the pod behind an endpoint that is no pod of the mesh's namespaces.
const nobody = "unknown"

// lbEndpoint names the pod of an endpoint, as its host, and says what is told of it.
func lbEndpoint(t target, metadata map[told]protoreflect.RawFields) (*endpointv3.LbEndpoint, error) {
	endpoint := &endpointv3.Endpoint{
		Hostname: nobody,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: t.at.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(t.at.Port())},
		}}},
	}
	if !meshed(t.workload) {
		endpoint.HealthCheckConfig = unasked()
	}
	e := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: endpoint}}
	if t.workload == nil {
		return e, nil
	}
	endpoint.Hostname = t.workload.Name
	what := toldOf(t.workload)
	if metadata[what] == nil {
		raw, err := what.metadata()
		if err != nil {
			return nil, err
		}
		metadata[what] = raw
	}
	// Endpoints of one workload say the same: it is marshalled once, and put behind the
	// address as bytes.
	e.ProtoReflect().SetUnknown(metadata[what])
	return e, nil
}

// unasked is for what has no sidecar to ask about its health.
func unasked() *endpointv3.Endpoint_HealthCheckConfig {
	return &endpointv3.Endpoint_HealthCheckConfig{DisableActiveHealthCheck: true}
}

// passthroughEndpoint is the way to wherever a connection was made to.
func passthroughEndpoint() *endpointv3.LbEndpoint {
	yes := text(name.PassthroughKey, "true")
	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: name.PassthroughRelay},
			}}},
		}},
		Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			name.BalancerMetadata: yes, name.TransportMetadata: yes,
		}},
	}
}

// text makes a Struct of pairs of a key and a value.
func text(pairs ...string) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		s.Fields[pairs[i]] = structpb.NewStringValue(pairs[i+1])
	}
	return s
}
