package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/openservicemesh/osm-operator/test/apps/load"
)

// call makes n requests from a pod and returns the report.
func call(ctx context.Context, t *testing.T, from *corev1.Pod, n int, args ...string) load.Report {
	t.Helper()
	full := append([]string{"-rate", "50", "-duration", fmt.Sprintf("%dms", n*20), "-timeout", "5s"}, args...)
	r, err := shared.Call(ctx, from, full...)
	must(t, err)
	if r.Sent == 0 {
		t.Fatalf("no request was made: %+v", r)
	}
	return r
}

// allServed ends the test unless every request was answered well.
func allServed(t *testing.T, what string, r load.Report) {
	t.Helper()
	if r.Failed() != 0 {
		t.Errorf("%s: %d of %d requests failed: status %v, errors %v, last %v", what, r.Failed(), r.Sent, r.Status, r.Errors, r.LastError)
	}
}

// noneServed ends the test if any request was answered well.
func noneServed(t *testing.T, what string, r load.Report) {
	t.Helper()
	if r.Succeeded != 0 {
		t.Errorf("%s: %d of %d requests were served, but none may be: %v", what, r.Succeeded, r.Sent, r.Identities)
	}
}

// TestProtocolsInPermissiveMode has every protocol pass between two meshed pods.
func TestProtocolsInPermissiveMode(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	const ns = "e2e-protocols"
	namespace(ctx, t, ns, true)
	client := idle(ns, "client")
	running(ctx, t,
		client,
		workload{namespace: ns, name: "http", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}},
		workload{namespace: ns, name: "grpc", args: []string{"grpc-echo", "-addr", ":9000"}, ports: []string{"grpc:9000:grpc"}},
		workload{namespace: ns, name: "ws", args: []string{"ws-echo", "-addr", ":8081"}, ports: []string{"http-ws:8081"}},
		workload{namespace: ns, name: "tcp", args: []string{"tcp-echo", "-addr", ":7000"}, ports: []string{"tcp-echo:7000"}},
		workload{namespace: ns, name: "mysql", args: []string{"mysql", "-addr", ":3306"}, ports: []string{"tcp-server-first-mysql:3306"}},
		workload{namespace: ns, name: "headless", replicas: 2, args: []string{"http-echo", "-addr", ":8082"}, ports: []string{"http:8082"}, headless: true},
		workload{namespace: ns, name: "headless-tcp", args: []string{"tcp-echo", "-addr", ":7001"}, ports: []string{"tcp-echo:7001"}, headless: true},
	)
	from := podOf(ctx, t, client)
	cases := map[string][]string{
		"HTTP/1.1":                     {"-target", "http://http." + ns + ":8080/"},
		"HTTP/1.1 by short name":       {"-target", "http://http:8080/"},
		"HTTP/1.1 new connections":     {"-target", "http://http." + ns + ":8080/", "-keep-alive=false"},
		"HTTP/2 with prior knowledge":  {"-protocol", "h2c", "-target", "http://http." + ns + ":8080/"},
		"gRPC unary":                   {"-protocol", "grpc", "-target", "grpc." + ns + ":9000"},
		"gRPC stream":                  {"-protocol", "grpc", "-stream", "-target", "grpc." + ns + ":9000"},
		"WebSocket":                    {"-protocol", "ws", "-target", "ws://ws." + ns + ":8081/"},
		"TCP":                          {"-protocol", "tcp", "-target", "tcp." + ns + ":7000"},
		"TCP, the server speaks first": {"-protocol", "tcp", "-greeting", "-target", "mysql." + ns + ":3306"},
		"HTTP to a headless service":   {"-target", "http://headless." + ns + ":8082/"},
		"TCP to a headless service":    {"-protocol", "tcp", "-target", "headless-tcp." + ns + ":7001"},
	}
	for name, args := range cases {
		t.Run(name, func(t *testing.T) {
			allServed(t, name, call(ctx, t, from, 25, args...))
		})
	}
}
