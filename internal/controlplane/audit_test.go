package controlplane_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

func TestAuditFindsWhatWentUnnoticed(t *testing.T) {
	bundle := pki.New(t).RootsPEM()
	tests := map[string]func(t *testing.T, e *controlplane.Engine){
		"nothing": nil,
		"a class that was not compiled": func(t *testing.T, e *controlplane.Engine) {
			t.Helper()
			e.Forget(e.Model().Workloads[key(podName(3, 0))].Class)
		},
		"endpoints that were not followed": func(t *testing.T, e *controlplane.Engine) {
			t.Helper()
			if err := e.Overlook("shop/s3|80|meshed"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := mall{services: 20, pods: 1}.open(ctx, false, bundle)
				want := w.sent.versions()
				go w.engine.Audit(ctx)
				if spoil != nil {
					spoil(t, w.engine)
				}
				if spoiled := cmp.Diff(want, w.sent.versions()) != ""; spoiled != (spoil != nil) {
					t.Fatalf("spoiled is %t before the audit", spoiled)
				}
				time.Sleep(3*controlplane.AuditPace + time.Second)
				synctest.Wait()
				if diff := cmp.Diff(want, w.sent.versions()); diff != "" {
					t.Errorf("after the audit (-want +got):\n%s", diff)
				}
				if w.sound+w.unsound != 20 || (w.unsound > 0) != (spoil != nil) {
					t.Errorf("%d classes are said to be as they should, %d not", w.sound, w.unsound)
				}
			})
		})
	}
}
