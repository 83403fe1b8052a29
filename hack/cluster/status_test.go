package main

import (
	"strings"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/node"
)

func TestProgramTroubleIsSaidInWords(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		program node.Condition
		want    string
	}{
		"one that runs is no trouble":          {node.Condition{Name: "etcd", PID: 9, Started: now}, ""},
		"one that waits for its turn":          {node.Condition{Name: "kubelet"}, "kubelet waits for another program"},
		"one that has ended":                   {node.Condition{Name: "etcd", LastExit: "exited with code 1", Restarts: 1}, "etcd exited with code 1 and is about to be started again"},
		"one that ends again and again":        {node.Condition{Name: "etcd", PID: 9, Started: now, LastExit: "exited with code 1", Restarts: 4}, "started again 4 times"},
		"one that has ended once at the start": {node.Condition{Name: "etcd", PID: 9, Started: now, LastExit: "exited with code 1", Restarts: 1}, ""},
		"one that has recovered":               {node.Condition{Name: "etcd", PID: 9, Started: now.Add(-time.Hour), LastExit: "exited with code 1", Restarts: 4}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := programTrouble([]node.Condition{test.program}, now)
			if test.want == "" && err != nil {
				t.Errorf("trouble: %v", err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("trouble: %v, want %q", err, test.want)
			}
		})
	}
}

func TestGatesAreTrueOrFalse(t *testing.T) {
	gates, err := parseGates(map[string]string{"A": "true", "B": "false"})
	if err != nil || !gates["A"] || gates["B"] {
		t.Errorf("parseGates() = %v, %v", gates, err)
	}
	if _, err := parseGates(map[string]string{"A": "on please"}); err == nil {
		t.Error("a gate took any value")
	}
}
