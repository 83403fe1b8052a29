package main

import (
	"os"
	"testing"

	"github.com/openservicemesh/osm-operator/hack/cluster/host"
)

// TestMain lets the test binary be the node too, since a cluster starts itself
// from whatever program it runs in.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == host.NodeCommand {
		os.Exit(run())
	}
	os.Exit(m.Run())
}
