//go:build linux

package envoyfacts

import (
	"net"
	"testing"
	"time"
)

// tcpProbe is a listener that tells by its answer whether a port of the application is
// open, from a check of Envoy's own.
func tcpProbe() string {
	return `
static_resources:
  listeners:
  - name: tcp-check
    address: {socket_address: {address: 0.0.0.0, port_value: 15904}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: tcp-check
          http_filters:
          - name: check-8080
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
              pass_through_mode: false
              headers: [{name: ":path", string_match: {exact: /osm-healthcheck/8080}}]
              cluster_min_healthy_percentages: {check-8080: {value: 100}}
          - name: check-9090
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
              pass_through_mode: false
              headers: [{name: ":path", string_match: {exact: /osm-healthcheck/9090}}]
              cluster_min_healthy_percentages: {check-9090: {value: 100}}
          - ` + routerFilter + `
          route_config: {virtual_hosts: [{name: none, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 404}}]}]}
  clusters:` + checked("8080") + checked("9090")
}

func checked(port string) string {
	return `
  - name: check-` + port + `
    type: STATIC
    health_checks:
    - {timeout: 1s, interval: 1s, no_traffic_interval: 1s, healthy_threshold: 1, unhealthy_threshold: 1, reuse_connection: false, tcp_health_check: {}}
    load_assignment:
      cluster_name: check-` + port + `
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ` + port + `}}}}]}]`
}

func TestHealthCheckFilterAnswersByTCPCheck(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ask := func(path string) int {
		var a answer
		_ = n.outside.DoAs(appUID, func() error {
			a = get("10.1.1.2:15904", "kubelet", path, nil)
			return nil
		})
		return a.status
	}
	n.start(t, tcpProbe())
	// From its first answer on, the listener knows.
	for range 50 {
		if got := ask("/osm-healthcheck/8080"); got != 503 {
			t.Fatalf("while the port is closed: %d, want 503", got)
		}
	}
	if got := ask("/elsewhere"); got != 404 {
		t.Errorf("another path: %d, want 404", got)
	}
	for round := range 3 {
		closeApp := listen(t, n.inside, "127.0.0.1:8080", func(net.Conn) {})
		began := time.Now()
		n.eventually(t, "200 once the port is open", func() bool { return ask("/osm-healthcheck/8080") == 200 })
		t.Logf("round %d: open is seen after %s", round, time.Since(began))
		if got := ask("/osm-healthcheck/9090"); got != 503 {
			t.Errorf("another port, which is closed: %d, want 503", got)
		}
		closeApp()
		began = time.Now()
		n.eventually(t, "503 once the port is closed", func() bool { return ask("/osm-healthcheck/8080") == 503 })
		t.Logf("round %d: closed is seen after %s", round, time.Since(began))
	}
}

func TestHealthCheckFilterIsRightFromTheStart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	listen(t, n.inside, "127.0.0.1:8080", func(net.Conn) {})
	seen := map[int]int{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = n.outside.Do(func() error {
				seen[get("10.1.1.2:15904", "kubelet", "/osm-healthcheck/8080", nil).status]++
				return nil
			})
		}
	}()
	n.start(t, tcpProbe())
	n.eventually(t, "three checks", func() bool { return n.stat(t, "cluster.check-8080.health_check.attempt") >= 3 })
	close(stop)
	<-done
	// 0 is a refused connection: the listener opens after the first check.
	for status := range seen {
		if status != 0 && status != 200 {
			t.Errorf("an open port is answered with %d, %d times", status, seen[status])
		}
	}
	if seen[200] == 0 {
		t.Error("never 200")
	}
	t.Log(seen)
}
