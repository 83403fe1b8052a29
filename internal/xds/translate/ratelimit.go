package translate

import (
	"cmp"
	"fmt"
	"math"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	networkratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/ir"
)

// shortestInterval is the shortest that Envoy fills a bucket in.
const shortestInterval = 50 * time.Millisecond

// bucket is what a rate takes from; it is full at first.
func (m *maker) bucket(r ir.Rate) *typev3.TokenBucket {
	if r.Number == 0 || r.Interval < shortestInterval {
		m.fail(fmt.Errorf("a rate limit of %d in %s: it needs one and %s at least", r.Number, r.Interval, shortestInterval))
	}
	if uint64(r.Number)+uint64(r.Burst) > math.MaxUint32 {
		m.fail(fmt.Errorf("a rate limit of %d and %d on top is more than can be counted", r.Number, r.Burst))
	}
	return &typev3.TokenBucket{
		MaxTokens: r.Number + r.Burst, TokensPerFill: wrapperspb.UInt32(r.Number), FillInterval: durationpb.New(r.Interval),
	}
}

// rateLimit is a bucket of requests of its own.
func (m *maker) rateLimit(l *ir.LocalRateLimit) *anypb.Any {
	all := &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}}
	out := &ratelimitv3.LocalRateLimit{
		StatPrefix:           inboundStats,
		TokenBucket:          m.bucket(l.Rate),
		FilterEnabled:        all,
		FilterEnforced:       all,
		ResponseHeadersToAdd: added(ir.HeaderChange{Add: l.Headers}),
	}
	if status := cmp.Or(l.Status, 429); status != 429 {
		out.Status = &typev3.HttpStatus{Code: typev3.StatusCode(status)}
	}
	return m.pack(out)
}

// connectionLimit closes connections over a rate, before anything is said on them.
func (m *maker) connectionLimit(r *ir.Rate) []*listenerv3.Filter {
	if r == nil {
		return nil
	}
	return []*listenerv3.Filter{m.networkFilter("envoy.filters.network.local_ratelimit", &networkratelimitv3.LocalRateLimit{
		StatPrefix: inboundStats, TokenBucket: m.bucket(*r),
	})}
}
