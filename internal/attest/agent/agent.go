package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/internal/attest/attestpb"
)

const (
	// patience is how long one question may take.
	patience = 40 * time.Second
	// soonest and latest bound the wait after a question that was not answered; a refusal
	// that is for ever is waited for longer still.
	soonest, latest = time.Second, 30 * time.Second
	refusedWait     = time.Minute
	// spread is over how long the pods of a mesh renew when the issuer changes.
	spread = 30 * time.Second
)

// Options are what an Agent needs; all are required.
type Options struct {
	// Target is the host and port of the control plane, ServerID its SPIFFE ID.
	Target, ServerID string
	// TokenFile has the token that proves who the pod is; the kubelet renews it.
	TokenFile string
	// Files are where certificate and roots go.
	Files Files
	// FirstRoots are the roots, as PEM, that the control plane is verified with until it
	// has told of others.
	FirstRoots []byte
}

// Run keeps the files until ctx is done. It returns early only if it could never work.
func Run(ctx context.Context, o Options) error {
	roots, err := newRoots(o)
	if err != nil {
		return err
	}
	conn, err := dial(o, roots)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	a := &agent{Options: o, roots: roots, client: attestpb.NewWorkloadIdentityClient(conn), states: make(chan *attestpb.State, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.watch(ctx)
	}()
	a.keep(ctx)
	<-done
	return nil
}

// agent is one pod's.
type agent struct {
	Options
	roots  *roots
	client attestpb.WorkloadIdentityClient
	// states has the newest state that keep has not taken.
	states chan *attestpb.State

	// issuer is the name of what signed the certificate; keep's alone.
	issuer string
}

// keep renews the certificate when it is time, until ctx is done.
func (a *agent) keep(ctx context.Context) {
	log := logr.FromContextOrDiscard(ctx)
	due := time.NewTimer(0)
	defer due.Stop()
	renewing := true // due is at most spread away
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case state := <-a.states:
			if err := a.follow(state); err != nil {
				log.Error(err, "Keeping the roots as they were")
			}
			if a.issuer != "" && state.GetIssuer() != a.issuer && !renewing {
				renewing = true
				due.Reset(rand.N(spread)) //nolint:gosec // jitter needs no secrecy
			}
		case <-due.C:
			wait, err := a.renew(ctx)
			renewing = err != nil
			if err != nil {
				failures++
				wait = pause(err, failures)
				log.Info("Asking again for a certificate", "cause", status.Convert(err).Message(), "after", wait.Round(time.Millisecond).String())
			} else {
				failures = 0
			}
			due.Reset(wait)
		}
	}
}

// renew gets a certificate for a new key, writes both, and returns when to do so again.
func (a *agent) renew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, csr, err := newRequest()
	if err != nil {
		return 0, err
	}
	response, err := a.client.Issue(ctx, &attestpb.IssueRequest{Csr: csr})
	if err != nil {
		return 0, err
	}
	if err := a.follow(response.GetState()); err != nil {
		return 0, err
	}
	leaf, err := a.Files.writeCredentials(key, response.GetChainPem())
	if err != nil {
		return 0, err
	}
	a.issuer = response.GetState().GetIssuer()
	wait := refreshIn(time.Now(), leaf.NotAfter, response.GetRefreshAt().AsTime())
	logr.FromContextOrDiscard(ctx).Info("Wrote a certificate", "identity", uriOf(leaf), "serial", leaf.SerialNumber.Text(16),
		"notAfter", leaf.NotAfter, "renewIn", wait.Round(time.Second).String())
	return wait, nil
}

// refreshIn returns how long to wait until a certificate is renewed: until the time
// that the control plane named and, by chance, up to a tenth of the rest of its life,
// so that pods that began together do not renew together.
func refreshIn(now, notAfter, refreshAt time.Time) time.Duration {
	if refreshAt.After(notAfter) {
		refreshAt = notAfter
	}
	rest := notAfter.Sub(refreshAt)
	return max(refreshAt.Sub(now), 0) + rand.N(max(rest/10, time.Second)) //nolint:gosec // jitter needs no secrecy
}

// follow takes what all pods are to follow.
func (a *agent) follow(state *attestpb.State) error {
	changed, err := a.roots.set(state.GetRootsPem())
	if err != nil || !changed {
		return err
	}
	return a.Files.writeRoots(state.GetRootsPem())
}

// watch hands on each state until ctx is done.
func (a *agent) watch(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		stream, err := a.client.Watch(ctx, &attestpb.WatchRequest{})
		for err == nil {
			var state *attestpb.State
			if state, err = stream.Recv(); err == nil {
				failures = 0
				a.offer(state)
			}
		}
		failures++
		select {
		case <-ctx.Done():
		case <-time.After(pause(err, failures)):
		}
	}
}

// offer replaces what keep has not taken yet.
func (a *agent) offer(state *attestpb.State) {
	select {
	case <-a.states:
	default:
	}
	a.states <- state
}

// pause returns how long to wait after failures in a row.
func pause(err error, failures int) time.Duration {
	if status.Code(err) == codes.PermissionDenied {
		return refusedWait + rand.N(refusedWait/2) //nolint:gosec // jitter needs no secrecy
	}
	wait := min(soonest<<min(failures-1, 10), latest)
	return wait/2 + rand.N(wait) //nolint:gosec // jitter needs no secrecy
}

// dial returns a connection that is made when it is first used, and verified with the
// newest roots each time that it is made.
func dial(o Options, roots *roots) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(o.Target,
		grpc.WithTransportCredentials(roots.credentials(o.ServerID)),
		grpc.WithPerRPCCredentials(token{file: o.TokenFile}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<20)),
	)
	if err != nil {
		return nil, fmt.Errorf("dialling the control plane at %s: %w", o.Target, err)
	}
	return conn, nil
}

// errNoRoots says that there is nothing to verify a control plane with.
var errNoRoots = errors.New("there is no root of trust in what the pod was given")
