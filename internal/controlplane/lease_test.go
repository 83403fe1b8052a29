package controlplane_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

func TestOneReplicaHoldsTheLease(t *testing.T) {
	config := apiserver.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "osm-system"}}); err != nil {
		t.Fatal(err)
	}
	var working atomic.Int32
	began := make(chan string, 10)
	run := func(holder string) (stop context.CancelFunc, done chan error) {
		ctx, stop := context.WithCancel(ctx)
		done = make(chan error, 1)
		lease := controlplane.Lease{Config: config, Namespace: "osm-system", Name: "work", Holder: holder}
		go func() {
			done <- lease.Run(ctx, func(ctx context.Context) {
				if n := working.Add(1); n > 1 {
					t.Errorf("%d replicas work at once", n)
				}
				began <- holder
				<-ctx.Done()
				working.Add(-1)
			})
		}()
		return stop, done
	}
	stopFirst, firstDone := run("first")
	if got := <-began; got != "first" {
		t.Fatalf("%s began", got)
	}
	stopSecond, secondDone := run("second")
	select {
	case got := <-began:
		t.Fatalf("%s began while the first held the lease", got)
	case <-time.After(3 * time.Second):
	}
	stopFirst()
	if err := <-firstDone; err != nil {
		t.Error(err)
	}
	gone := time.Now()
	if got := <-began; got != "second" || time.Since(gone) > 10*time.Second {
		t.Errorf("%s began after %s: a lease that was given up is not waited for", got, time.Since(gone))
	}
	stopSecond()
	if err := <-secondDone; err != nil {
		t.Error(err)
	}
}
