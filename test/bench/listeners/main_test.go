package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestEveryShapeIsAccepted keeps the benchmark alive, and the decision that rests on
// it: in the shape that was chosen, one more service costs the same in any mesh.
func TestEveryShapeIsAccepted(t *testing.T) {
	t.Parallel()
	envoy := os.Getenv("OSM_TEST_ENVOY")
	if envoy == "" {
		t.Skip("OSM_TEST_ENVOY is not set")
	}
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if s.empty {
				if _, err := measure(ctx, envoy, s, load{workers: 1, quiet: 100 * time.Millisecond}); err != nil {
					t.Fatal(err)
				}
				return
			}
			var bytes [2]int
			for i, services := range []int{100, 200} {
				m, err := measure(ctx, envoy, s, load{services: services, more: 2, workers: 1, quiet: 100 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				if m.resident < m.allocated || m.allocated == 0 || m.ready == 0 || m.sent == 0 || m.oneBytes == 0 {
					t.Errorf("incomplete: %+v", m)
				}
				bytes[i] = m.oneBytes
			}
			grows := bytes[1] > bytes[0]*3/2
			if want := strings.HasPrefix(s.name, "(b)") || strings.HasPrefix(s.name, "(c)") || strings.HasPrefix(s.name, "(d)"); grows != want {
				t.Errorf("one more service costs %d bytes at 100 services, %d at 200: grows is %t, want %t", bytes[0], bytes[1], grows, want)
			}
		})
	}
}
