package translate

import (
	"cmp"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	ringhashv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// balance chooses an endpoint.
func (m *maker) balance(b *ir.Balance) *clusterv3.LoadBalancingPolicy {
	if b == nil {
		b = &ir.Balance{Kind: ir.LeastRequest}
	}
	var one *clusterv3.LoadBalancingPolicy_Policy
	switch b.Kind {
	case ir.LeastRequest:
		one = m.balancer("envoy.load_balancing_policies.least_request", &leastrequestv3.LeastRequest{SlowStartConfig: slowStart(b)})
	case ir.RoundRobin:
		one = m.balancer("envoy.load_balancing_policies.round_robin", &roundrobinv3.RoundRobin{SlowStartConfig: slowStart(b)})
	case ir.HashHeader, ir.HashCookie, ir.HashSource:
		one = m.balancer("envoy.load_balancing_policies.ring_hash", &ringhashv3.RingHash{
			MinimumRingSize: wrapperspb.UInt64(ringSize), MaximumRingSize: wrapperspb.UInt64(ringSize),
			ConsistentHashingLbConfig: &commonv3.ConsistentHashingLbConfig{HashPolicy: []*routev3.RouteAction_HashPolicy{hashOn(b)}},
		})
	default:
		m.fail(fmt.Errorf("there is no choosing of endpoints by %q", b.Kind))
		return nil
	}
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{one}}
}

// ringSize is how many places endpoints share, so that all proxies agree.
const ringSize = 1024

func hashOn(b *ir.Balance) *routev3.RouteAction_HashPolicy {
	switch b.Kind {
	case ir.HashHeader:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: b.Name},
		}}
	case ir.HashCookie:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{
			Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: b.Name},
		}}
	default:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}}
	}
}

func slowStart(b *ir.Balance) *commonv3.SlowStartConfig {
	if b.SlowStart <= 0 {
		return nil
	}
	return &commonv3.SlowStartConfig{
		SlowStartWindow:  durationpb.New(b.SlowStart),
		MinWeightPercent: &typev3.Percent{Value: float64(b.LeastPercent)},
	}
}

// outliers are endpoints that answered with errors in a row, or could not be connected
// to. Nothing else makes one.
func outliers(o *ir.Outliers) *clusterv3.OutlierDetection {
	if o == nil {
		return nil
	}
	ejection := cmp.Or(o.Ejection, 30*time.Second)
	return &clusterv3.OutlierDetection{
		Consecutive_5Xx:          wrapperspb.UInt32(cmp.Or(o.Errors, 5)),
		EnforcingConsecutive_5Xx: wrapperspb.UInt32(100),
		Interval:                 durationpb.New(cmp.Or(o.Interval, 10*time.Second)),
		BaseEjectionTime:         durationpb.New(ejection),
		MaxEjectionTime:          durationpb.New(max(ejection, 5*time.Minute)),
		MaxEjectionPercent:       wrapperspb.UInt32(o.MostPercent),
		EnforcingSuccessRate:     wrapperspb.UInt32(0),
	}
}

func (m *maker) balancer(of string, config proto.Message) *clusterv3.LoadBalancingPolicy_Policy {
	return &clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: m.extension(of, config)}
}

// byOriginalDestination takes the endpoint that the connection was made to. Where
// no endpoint has that address, it takes the way to wherever that is, if the load
// assignment has one, and otherwise nobody: never another endpoint.
func (m *maker) byOriginalDestination(c *ir.Cluster) *clusterv3.LoadBalancingPolicy {
	otherwise := &subsetv3.Subset{
		FallbackPolicy: subsetv3.Subset_NO_FALLBACK,
		SubsetLbPolicy: &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{
			m.balancer("envoy.load_balancing_policies.round_robin", &roundrobinv3.RoundRobin{}),
		}},
	}
	if passesThrough(c) {
		otherwise.FallbackPolicy = subsetv3.Subset_DEFAULT_SUBSET
		otherwise.DefaultSubset = labels(name.PassthroughKey, "true")
	}
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{
		m.balancer("envoy.load_balancing_policies.override_host", &overridev3.OverrideHost{
			OverrideHostSources: []*overridev3.OverrideHost_OverrideHostSource{{Metadata: &metadatav3.MetadataKey{
				Key:  name.BalancerMetadata,
				Path: []*metadatav3.MetadataKey_PathSegment{{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: name.DestinationKey}}},
			}}},
			FallbackPolicy: &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{
				m.balancer("envoy.load_balancing_policies.subset", otherwise),
			}},
		}),
	}}
}
