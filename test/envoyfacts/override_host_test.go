//go:build linux

package envoyfacts

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// overrideHost is a load balancing policy that calls the endpoint that is named by
// the source, and none if it is not among the endpoints: the subset policy that it
// falls back to has no subset.
func overrideHost(source string) string {
	return `
      load_balancing_policy:
        policies:
        - typed_extension_config:
            name: envoy.load_balancing_policies.override_host
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost
              override_host_sources: [` + source + `]
              fallback_policy:
                policies:
                - typed_extension_config:
                    name: envoy.load_balancing_policies.subset
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset
                      fallback_policy: NO_FALLBACK
                      subset_selectors: [{keys: [no-endpoint-has-this]}]
                      subset_lb_policy:
                        policies:
                        - typed_extension_config:
                            name: envoy.load_balancing_policies.round_robin
                            typed_config: {"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}`
}

// headless is a cluster of 10.2.0.1, 10.2.0.2, 10.2.0.4 and fd02::1. Of those that listen,
// 10.2.0.3 and fd02::2 are strangers to it.
func headless(name, port, rest string) string {
	return `
    - name: ` + name + `
      type: STATIC
      connect_timeout: 2s` + rest + `
      load_assignment:
        cluster_name: ` + name + `
        endpoints:
        - lb_endpoints:
          - endpoint: {address: {socket_address: {address: 10.2.0.1, port_value: ` + port + `}}}
          - endpoint: {address: {socket_address: {address: 10.2.0.2, port_value: ` + port + `}}}
          - endpoint: {address: {socket_address: {address: 10.2.0.4, port_value: ` + port + `}}}
          - endpoint: {address: {socket_address: {address: "fd02::1", port_value: ` + port + `}}}
`
}

const (
	routerFilter = `{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`

	// mutation sets a header from the address that the client called, whatever the client sent.
	mutation = `
            - name: original-destination
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                mutations:
                  request_mutations:
                  - append: {append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: x-osm-original-destination, value: "%DOWNSTREAM_LOCAL_ADDRESS%"}}`

	toMetadata = `
            - name: to-metadata
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
                request_rules:
                - header: x-osm-original-destination
                  on_header_present: {metadata_namespace: osm, key: original-destination, type: STRING}
                  remove: true`

	wildcard8080 = `
      address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
      additional_addresses: [{address: {socket_address: {address: "::", port_value: 8080}}}]
      bind_to_port: false`
)

// routed is a listener whose requests all go to the cluster "headless".
func routed(filters, route string) string {
	return `
    - name: headless` + wildcard8080 + `
      filter_chains:
      - filters:
        - name: hcm
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: headless
            http_filters:` + filters + `
            - ` + routerFilter + `
            route_config:
              virtual_hosts:
              - name: all
                domains: ["*"]
                routes: [{match: {prefix: /}, route: {cluster: headless}` + route + `}]`
}

func TestOriginalDestinationAmongEndpointsHTTP(t *testing.T) {
	t.Parallel()
	const add = `, request_headers_to_add: [{append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: x-osm-original-destination, value: "%DOWNSTREAM_LOCAL_ADDRESS%"}}]`
	const remove = `, request_headers_to_remove: [x-osm-original-destination]`
	tests := map[string]struct {
		filters, route, source string
		// leaks says that the endpoint sees the header.
		works, leaks bool
	}{
		"a header set by a filter":                     {mutation, "", `{header: x-osm-original-destination}`, true, true},
		"a header set by the route":                    {"", add, `{header: x-osm-original-destination}`, true, true},
		"a header that the route removes is gone then": {mutation, remove, `{header: x-osm-original-destination}`, false, false},
		"metadata set by a filter":                     {mutation + toMetadata, "", `{metadata: {key: osm, path: [{key: original-destination}]}}`, true, false},
		"a header that nobody sets is no choice":       {"", "", `{header: x-osm-original-destination}`, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			seen := make(chan string, 100)
			for _, addr := range []string{"10.2.0.1:8080", "10.2.0.2:8080", "10.2.0.3:8080", "[fd02::1]:8080", "[fd02::2]:8080"} {
				listen(t, n.outside, addr, recordHTTP(seen))
			}
			n.start(t, `
static_resources:
  listeners:`+catchAll(`{socket_address: {address: 0.0.0.0, port_value: 15001}}
      additional_addresses: [{address: {socket_address: {address: "::", port_value: 15001}}}]`, "catch-all")+routed(tt.filters, tt.route)+`
  clusters:`+headless("headless", "8080", overrideHost(tt.source)))
			for range 4 {
				for to, want := range map[string]string{
					"10.2.0.1:8080":  "200 endpoint 10.2.0.1:8080",
					"10.2.0.2:8080":  "200 endpoint 10.2.0.2:8080",
					"[fd02::1]:8080": "200 endpoint [fd02::1]:8080",
					"10.2.0.3:8080":  "503 no healthy upstream",
					"[fd02::2]:8080": "503 no healthy upstream",
				} {
					if !tt.works {
						want = "503 no healthy upstream"
					}
					if got := n.get(to, "any", "/").String(); got != want {
						t.Errorf("%s: %q, want %q", to, got, want)
					}
				}
			}
			// A client that names an endpoint itself gets where it called, or nowhere.
			if tt.works {
				spoofed := map[string][]string{"x-osm-original-destination": {"10.2.0.2:8080"}}
				for to, want := range map[string]string{"10.2.0.1:8080": "200 endpoint 10.2.0.1:8080", "10.2.0.3:8080": "503 no healthy upstream"} {
					if got := n.getWith(to, "any", "/", spoofed).String(); got != want {
						t.Errorf("%s, with a header of the client's: %q, want %q", to, got, want)
					}
				}
			}
			close(seen)
			for request := range seen {
				if leaks := strings.Contains(strings.ToLower(request), "x-osm-original-destination"); leaks != tt.leaks {
					t.Errorf("the endpoint sees the header: %t, want %t:\n%s", leaks, tt.leaks, request)
				}
			}
		})
	}
}

// TestOriginalDestinationIsTriedOnce asks what becomes of retries, and of endpoints that
// are not healthy.
func TestOriginalDestinationIsTriedOnce(t *testing.T) {
	t.Parallel()
	const once, twice = "%DOWNSTREAM_LOCAL_ADDRESS%", "%DOWNSTREAM_LOCAL_ADDRESS%,%DOWNSTREAM_LOCAL_ADDRESS%"
	for name, tt := range map[string]struct {
		value, want string
	}{
		"the address given once, a retry finds none":  {once, "503 no healthy upstream"},
		"the address given twice, a retry goes there": {twice, "200 endpoint 10.2.0.1:8080"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			var tries atomic.Int32
			listen(t, n.outside, "10.2.0.1:8080", func(c net.Conn) {
				if tries.Add(1) > 1 {
					httpHere(c)
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\nConnection: close\r\n\r\nagain")
			})
			listen(t, n.outside, "10.2.0.2:8080", httpHere)
			add := `, request_headers_to_add: [{append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: x-osm-original-destination, value: "` + tt.value + `"}}]`
			n.start(t, `
static_resources:
  listeners:`+catchAll(outbound15001, "catch-all")+strings.Replace(routed("", add), "{cluster: headless}", `{cluster: headless, retry_policy: {retry_on: 5xx, num_retries: 1}}`, 1)+`
  clusters:`+strings.Replace(headless("headless", "8080", overrideHost(`{header: x-osm-original-destination}`)),
				"- endpoint: {address: {socket_address: {address: 10.2.0.2,", "- health_status: UNHEALTHY\n            endpoint: {address: {socket_address: {address: 10.2.0.2,", 1))
			if got := n.get("10.2.0.1:8080", "any", "/").String(); got != tt.want {
				t.Errorf("after a failure: %q, want %q", got, tt.want)
			}
			if got, want := n.get("10.2.0.2:8080", "any", "/").String(), "200 endpoint 10.2.0.2:8080"; got != want {
				t.Errorf("an endpoint that is not healthy: %q, want %q", got, want)
			}
		})
	}
}
