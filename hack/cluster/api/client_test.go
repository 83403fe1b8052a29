package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve answers with these bodies, by path.
func serve(t *testing.T, bodies map[string]string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, known := bodies[r.URL.Path]
		if !known {
			http.Error(w, "no such thing", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &Client{server: server.URL, http: server.Client()}
}

func TestNodeReady(t *testing.T) {
	const node = "/api/v1/nodes/n"
	condition := func(status, heartbeat, message string) string {
		return `{"status":{"conditions":[{"type":"DiskPressure","status":"False"},{"type":"Ready","status":"` + status +
			`","lastHeartbeatTime":"` + heartbeat + `","message":"` + message + `"}]}}`
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	tests := map[string]struct {
		bodies map[string]string
		want   string
	}{
		"it is":                           {map[string]string{node: condition("True", "2026-01-02T03:04:05Z", "")}, ""},
		"it was, before it was restarted": {map[string]string{node: condition("True", "2026-01-02T03:04:04Z", "")}, "has not been heard of"},
		"it never came":                   {map[string]string{}, "404"},
		"it says why not":                 {map[string]string{node: condition("False", "2026-01-02T03:04:06Z", "no network")}, "no network"},
		"it has not said yet":             {map[string]string{node: `{}`}, "not said yet"},
		"the answer is none that we know": {map[string]string{node: `<html>`}, "invalid character"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			check(t, serve(t, test.bodies).NodeReady(t.Context(), "n", since), test.want)
		})
	}
}

func TestDeploymentReady(t *testing.T) {
	tests := map[string]struct{ body, want string }{
		"all replicas are available":      {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"updatedReplicas":2,"availableReplicas":2}}`, ""},
		"one is missing":                  {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"updatedReplicas":2,"availableReplicas":1}}`, "1 of 2"},
		"the available ones are old ones": {`{"metadata":{"generation":2},"spec":{"replicas":2},"status":{"observedGeneration":2,"updatedReplicas":0,"availableReplicas":2}}`, "0 of 2"},
		"an edit has not been seen":       {`{"metadata":{"generation":3},"spec":{"replicas":2},"status":{"observedGeneration":2,"updatedReplicas":2,"availableReplicas":2}}`, "2 of 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client := serve(t, map[string]string{"/apis/apps/v1/namespaces/ns/deployments/d": test.body})
			check(t, client.DeploymentReady(t.Context(), "ns", "d"), test.want)
		})
	}
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}
