package controlplane

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Lease is held by one replica at a time. To lose it, as when the API server is away,
// ends what needs it and nothing else: proxies go on being served.
type Lease struct {
	// Config reaches the API server.
	Config *rest.Config
	// Namespace and Name are the Lease's, Holder is this replica's name.
	Namespace, Name, Holder string
}

// Run runs f whenever the lease is held, one call at a time, until ctx is done, and
// returns when f has ended. f ends when its context is done. Another replica may begin
// while it does: what f does must bear that.
func (l Lease) Run(ctx context.Context, f func(context.Context)) error {
	client, err := coordinationv1client.NewForConfig(l.Config)
	if err != nil {
		return fmt.Errorf("making a client for leases: %w", err)
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.Holder},
	}
	var one sync.Mutex
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, Name: l.Name, ReleaseOnCancel: true,
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					one.Lock()
					defer one.Unlock()
					if ctx.Err() == nil {
						f(ctx)
					}
				},
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			return fmt.Errorf("making the elector of lease %s: %w", l.Name, err)
		}
		elector.Run(ctx)
	}
	one.Lock()
	defer one.Unlock()
	return nil
}
