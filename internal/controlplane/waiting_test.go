package controlplane_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openservicemesh/osm-operator/internal/controlplane"
)

func TestPodsThatWaitForLongAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu   sync.Mutex
			told map[string]int
		)
		w := &controlplane.Waiting{
			Concerns: func(reason string) bool { return reason != "Mine" },
			Tell: func(pods map[string]int) {
				mu.Lock()
				defer mu.Unlock()
				told = pods
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		after := func(d time.Duration, want map[string]int) {
			t.Helper()
			time.Sleep(d) // the bubble's clock
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !maps.Equal(told, want) {
				t.Errorf("told %v, want %v", told, want)
			}
		}
		w.Wait("a", "NoIssuer")
		w.Wait("b", "AuthorityUnavailable")
		w.Wait("c", "Mine")
		w.Wait("", "NoIssuer")
		after(5*time.Second, nil)
		w.Wait("a", "AuthorityUnavailable")
		after(7*time.Second, map[string]int{"AuthorityUnavailable": 2})
		w.Done("b")
		after(2*time.Second, map[string]int{"AuthorityUnavailable": 1})
		after(time.Minute+20*time.Second, nil) // its pod has gone, and nobody looks at it any more
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
