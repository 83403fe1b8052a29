package controlplane

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/report/reportpb"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// reportPace is how often the state of proxies is looked at.
const reportPace = 100 * time.Millisecond

// Report keeps a store up to date with what is known of connected proxies, and of the
// policies that they are sent, and each proxy in the class of its pod, until ctx is done.
func Report(ctx context.Context, server *serve.Server, engine *Engine, into *report.Store) {
	sent := ""
	server.Watch(ctx, reportPace, func(changed []serve.ProxyState, gone []string) {
		for _, p := range changed {
			engine.Place(mesh.Key{Namespace: p.Namespace, Name: p.Name}, p.PodUID, p.Class)
			into.Set(reported(p))
		}
		for _, uid := range gone {
			into.Remove(uid)
		}
		// What was sent at the last look is in what proxies are owed by this one.
		into.SetPolicies(sent)
		sent = engine.Policies()
	})
}

func reported(p serve.ProxyState) *reportpb.Proxy {
	out := &reportpb.Proxy{
		PodUid: p.PodUID, Namespace: p.Namespace, Name: p.Name, Revision: p.Revision, Class: p.Class,
		ConnectedSince: timestamppb.New(p.ConnectedSince),
		LeafSerial:     p.LeafSerial, LeafIssuer: p.LeafIssuer, LeafNotAfter: timestamppb.New(p.LeafNotAfter),
		TrustBundle: p.TrustBundle, InSync: p.InSync, Settled: p.Settled, Pending: uint32(max(0, p.Pending)),
	}
	if r := p.Rejected; r != nil {
		out.Rejected = &reportpb.Rejection{TypeUrl: r.TypeURL, Resources: r.Resources, Message: r.Message}
	}
	return out
}
