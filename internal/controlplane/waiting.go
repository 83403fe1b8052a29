package controlplane

import (
	"context"
	"sync"
	"time"
)

const (
	// waitingLong is how long a pod waits for a certificate before anybody is told: a pod
	// that is seconds old, or a replica that starts, is nothing to look at.
	waitingLong = 10 * time.Second
	// waitingOver is how long after it was last looked at a request counts as gone: it is
	// looked at once a minute at least.
	waitingOver = 75 * time.Second
	// waitingPace is how often what is told is looked at.
	waitingPace = time.Second
)

// Waiting counts the pods that wait for a certificate through no fault of their own. It is
// safe for concurrent use.
type Waiting struct {
	// Concerns reports whether a reason is to be told.
	Concerns func(reason string) bool
	// Tell is told the counts by reason, where they may have changed.
	Tell func(pods map[string]int)

	mu   sync.Mutex
	pods map[string]wait // by UID; protected by mu
}

// wait is what a pod waits for.
type wait struct {
	reason      string
	since, seen time.Time
}

// Wait takes note of a pod that was looked at and left waiting.
func (w *Waiting) Wait(podUID, reason string) {
	if podUID == "" || !w.Concerns(reason) {
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pods == nil {
		w.pods = map[string]wait{}
	}
	one := w.pods[podUID]
	if one.since.IsZero() {
		one.since = now
	}
	one.reason, one.seen = reason, now
	w.pods[podUID] = one
}

// Done forgets a pod that waits no more.
func (w *Waiting) Done(podUID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, podUID)
}

// Run tells until ctx is done.
func (w *Waiting) Run(ctx context.Context) error {
	ticker := time.NewTicker(waitingPace)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			w.Tell(w.counts(now))
		}
	}
}

// counts forgets what is over, and counts by reason what has lasted.
func (w *Waiting) counts(now time.Time) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for uid, one := range w.pods {
		switch {
		case now.Sub(one.seen) > waitingOver:
			delete(w.pods, uid)
		case now.Sub(one.since) >= waitingLong:
			out[one.reason]++
		}
	}
	return out
}
