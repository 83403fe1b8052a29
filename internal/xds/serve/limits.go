package serve

import (
	"cmp"
	"context"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Limits bound what one proxy can take of a replica. Zero values are the defaults.
type Limits struct {
	// Names is how many names of one type a proxy may ask for; 20,000 by default.
	Names int
	// NameBytes is how long a name or a version may be; 4,096 by default.
	NameBytes int
	// MetadataBytes is how large a node's metadata may be; 64 KiB by default.
	MetadataBytes int
	// RequestBytes is how large a request may be; 4 MiB by default.
	RequestBytes int
	// ResponseBytes is how large a response grows before the rest goes into the next;
	// 1 MiB by default.
	ResponseBytes int
	// RequestRate is how many requests a second are read of those that answer nothing,
	// RequestBurst how many at once; 50 and 500 by default. More wait unread.
	RequestRate, RequestBurst int
	// Streams is how many streams a pod may have; the oldest ends when there are more.
	// 3 by default.
	Streams int
	// Greeting is how long a stream may be silent at its start; 10 s by default.
	Greeting time.Duration
	// Stuck is how long a response may wait for the proxy to read; 2 min by default.
	Stuck time.Duration
	// Hold is how long listeners and routes wait for clusters; 5 s by default.
	Hold time.Duration
	// Age is how long a stream may last, whatever its certificate; 12 h by default.
	Age time.Duration
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Names:         cmp.Or(l.Names, 20_000),
		NameBytes:     cmp.Or(l.NameBytes, 4096),
		MetadataBytes: cmp.Or(l.MetadataBytes, 64<<10),
		RequestBytes:  cmp.Or(l.RequestBytes, 4<<20),
		ResponseBytes: cmp.Or(l.ResponseBytes, 1<<20),
		RequestRate:   cmp.Or(l.RequestRate, 50),
		RequestBurst:  cmp.Or(l.RequestBurst, 500),
		Streams:       cmp.Or(l.Streams, 3),
		Greeting:      cmp.Or(l.Greeting, 10*time.Second),
		Stuck:         cmp.Or(l.Stuck, 2*time.Minute),
		Hold:          cmp.Or(l.Hold, 5*time.Second),
		Age:           cmp.Or(l.Age, 12*time.Hour),
	}
}

// check refuses a request that is larger than any proxy's.
func (l Limits) check(req *discoveryv3.DeltaDiscoveryRequest) error {
	names := len(req.GetResourceNamesSubscribe()) + len(req.GetResourceNamesUnsubscribe())
	if names > 2*l.Names || len(req.GetInitialResourceVersions()) > 2*l.Names {
		return status.Errorf(codes.ResourceExhausted, "more than %d names in one request", 2*l.Names)
	}
	if proto.Size(req.GetNode().GetMetadata()) > l.MetadataBytes {
		return status.Errorf(codes.ResourceExhausted, "more than %d bytes of metadata", l.MetadataBytes)
	}
	for _, list := range [][]string{req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe()} {
		for _, name := range list {
			if len(name) > l.NameBytes {
				return status.Errorf(codes.InvalidArgument, "a name of more than %d bytes", l.NameBytes)
			}
		}
	}
	for name, v := range req.GetInitialResourceVersions() {
		if len(name) > l.NameBytes || len(v) > l.NameBytes {
			return status.Errorf(codes.InvalidArgument, "a name or a version of more than %d bytes", l.NameBytes)
		}
	}
	return nil
}

// pace lets burst things happen at once, and from then on rate a second. It is for
// one goroutine.
type pace struct {
	rate, burst float64
	spent       float64
	last        time.Time
}

// wait returns when the next may happen, or when ctx is done.
func (p *pace) wait(ctx context.Context) {
	delay := p.spend(time.Now())
	if delay <= 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// spend takes one and returns how long to wait for it.
func (p *pace) spend(now time.Time) time.Duration {
	p.spent = max(0, p.spent-now.Sub(p.last).Seconds()*p.rate) + 1
	p.last = now
	return time.Duration((p.spent - p.burst) / p.rate * float64(time.Second))
}
