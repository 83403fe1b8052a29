//go:build linux

package envoyfacts

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

const (
	outbound15001 = `{socket_address: {address: 0.0.0.0, port_value: 15001}}
      additional_addresses: [{address: {socket_address: {address: "::", port_value: 15001}}}]`

	tcpProxy = `"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`
)

// tcpListener takes all connections to port 8080 with network filters.
func tcpListener(filters string) string {
	return `
    - name: headless` + wildcard8080 + `
      filter_chains:
      - filters:` + filters
}

// A tunnel passes connections through an internal listener, as HTTP requests whose
// authority is the address that the client called. One listener and one route serve all
// clusters.
const (
	tunnelFilters = `
        - name: tcp
          typed_config:
            ` + tcpProxy + `
            stat_prefix: headless
            cluster: internal
            tunneling_config:
              hostname: "%DOWNSTREAM_LOCAL_ADDRESS%"
              headers_to_add: [{header: {key: x-osm-cluster, value: headless}}]`

	tunnelListener = `
    - name: internal
      internal_listener: {}
      filter_chains:
      - filters:
        - name: hcm
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: internal
            upgrade_configs: [{upgrade_type: CONNECT}]
            http2_protocol_options: {allow_connect: true}
            http_filters: [` + routerFilter + `]
            route_config:
              virtual_hosts:
              - name: all
                domains: ["*"]
                routes:
                - match: {connect_matcher: {}}
                  route: {cluster_header: x-osm-cluster, timeout: 0s, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}`

	tunnelCluster = `
    - name: internal
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      load_assignment:
        cluster_name: internal
        endpoints: [{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: internal}}}}]}]`

	tunnelBootstrap = `
bootstrap_extensions:
- name: internal
  typed_config: {"@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}`
)

// A relay passes connections through an internal listener too, as bytes behind a header of
// the PROXY protocol: what the listener reads from it becomes metadata of the connection.
const (
	relayFilters = `
        - name: tcp
          typed_config:
            ` + tcpProxy + `
            stat_prefix: headless
            cluster: relay
            proxy_protocol_tlvs: [{type: 0xE0, format_string: {text_format_source: {inline_string: "%DOWNSTREAM_LOCAL_ADDRESS%"}}}]`

	relayListener = `
    - name: relay
      internal_listener: {}
      listener_filters:
      - name: envoy.filters.listener.proxy_protocol
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
          rules: [{tlv_type: 0xE0, on_tlv_present: {metadata_namespace: osm, key: original-destination}}]
      filter_chains:
      - filters:
        - name: tcp
          typed_config:
            ` + tcpProxy + `
            stat_prefix: relay
            cluster: headless`

	relayCluster = `
    - name: relay
      type: STATIC
      transport_socket:
        name: envoy.transport_sockets.upstream_proxy_protocol
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
          config: {version: V2, pass_through_tlvs: {match_type: INCLUDE, tlv_type: [0xE0]}}
          transport_socket:
            name: envoy.transport_sockets.raw_buffer
            typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}
      load_assignment:
        cluster_name: relay
        endpoints: [{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: relay}}}}]}]`
)

func TestOriginalDestinationAmongEndpointsTCP(t *testing.T) {
	t.Parallel()
	const (
		closed   = ""
		endpoint = "endpoint "
	)
	proxy := func(rest string) string {
		return `
        - name: tcp
          typed_config:
            ` + tcpProxy + `
            stat_prefix: headless` + rest
	}
	tests := map[string]struct {
		filters, listeners, clusters, bootstrap string
		// member and stranger are what is heard from an endpoint's address, and from
		// another that listens too.
		member, stranger string
	}{
		"a TCP proxy alone has no metadata to choose by": {
			filters:  proxy("\n            cluster: headless"),
			clusters: headless("headless", "8080", overrideHost(`{metadata: {key: osm, path: [{key: original-destination}]}}`)),
			member:   closed, stranger: closed,
		},
		"a TCP proxy through a tunnel inside the process": {
			filters: tunnelFilters, listeners: tunnelListener, bootstrap: tunnelBootstrap,
			clusters: tunnelCluster + headless("headless", "8080", overrideHost(`{header: ":authority"}`)),
			member:   endpoint, stranger: closed,
		},
		"a TCP proxy through a relay inside the process": {
			filters: relayFilters, listeners: relayListener, bootstrap: tunnelBootstrap,
			clusters: relayCluster + headless("headless", "8080", overrideHost(`{metadata: {key: osm, path: [{key: original-destination}]}}`)),
			member:   endpoint, stranger: closed,
		},
		"an original destination cluster asks nobody": {
			filters: proxy("\n            cluster: headless"),
			clusters: `
    - {name: headless, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 2s}`,
			member: endpoint, stranger: endpoint,
		},
		"a cluster for each endpoint, named by the address": {
			filters: `
        - name: name
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config
            on_new_connection:
            - {object_key: envoy.tcp_proxy.cluster, format_string: {text_format_source: {inline_string: "%DOWNSTREAM_LOCAL_ADDRESS%"}}}` + proxy("\n            cluster: none"),
			clusters: each("10.2.0.1") + each("10.2.0.2") + each("10.2.0.4") + each("fd02::1"),
			member:   endpoint, stranger: closed,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			for _, addr := range []string{"10.2.0.1:8080", "10.2.0.2:8080", "10.2.0.3:8080", "[fd02::1]:8080", "[fd02::2]:8080"} {
				listen(t, n.outside, addr, tcpHere)
			}
			listen(t, n.outside, "10.2.0.4:8080", countFirst)
			n.start(t, tt.bootstrap+`
static_resources:
  listeners:`+catchAll(outbound15001, "catch-all")+tcpListener(tt.filters)+tt.listeners+`
  clusters:`+tt.clusters)
			for _, to := range []string{"10.2.0.1:8080", "10.2.0.2:8080", "[fd02::1]:8080", "10.2.0.3:8080", "[fd02::2]:8080"} {
				want := tt.member
				if to == "10.2.0.3:8080" || to == "[fd02::2]:8080" {
					want = tt.stranger
				}
				if want != closed {
					want += to
				}
				began := time.Now()
				if got := n.talk(to); got != want {
					t.Errorf("%s: %q, want %q", to, got, want)
				}
				if took := time.Since(began); took > 500*time.Millisecond {
					t.Errorf("%s: the end is heard of after %s", to, took)
				}
			}
			if tt.member == closed {
				return
			}
			if got := n.ask("10.2.0.4:8080"); got != "after all 5 bytes" {
				t.Errorf("a client that stops sending first hears %q", got)
			}
		})
	}
}

// countFirst answers when the client has sent all.
func countFirst(c net.Conn) {
	b, err := io.ReadAll(c)
	if err != nil {
		return
	}
	fmt.Fprintf(c, "after all %d bytes", len(b))
}

// each is a cluster of one endpoint, named by its address.
func each(addr string) string {
	name := addr + ":8080"
	if addr == "fd02::1" {
		name = "[" + addr + "]:8080"
	}
	return `
    - name: "` + name + `"
      type: STATIC
      load_assignment:
        cluster_name: "` + name + `"
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "` + addr + `", port_value: 8080}}}}]}]`
}

// TestCallingTheOutboundListenerItself asks what an application can do to its sidecar by
// calling the listener that the kernel redirects to: passing such a connection to its
// original destination comes back to the same listener, from the sidecar itself.
func TestCallingTheOutboundListenerItself(t *testing.T) {
	t.Parallel()
	passthrough := `
      - filters:
        - name: tcp
          typed_config:
            ` + tcpProxy + `
            stat_prefix: passthrough
            cluster: passthrough`
	const blackhole = `
      - filter_chain_match: {destination_port: 15001}
        filters:
        - name: tcp
          typed_config:
            ` + tcpProxy + `
            stat_prefix: blackhole
            cluster: blackhole`
	for name, tt := range map[string]struct {
		chains string
		loops  bool
	}{
		"passed on, it goes round in circles":         {passthrough, true},
		"a chain for the listener's own port ends it": {blackhole + passthrough, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			listen(t, n.outside, "10.2.0.1:7070", tcpHere)
			n.start(t, `
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 100}
static_resources:
  listeners:
    - name: outbound-listener
      address: `+outbound15001+`
      use_original_dst: true
      filter_chains:`+tt.chains+`
  clusters:
  - {name: passthrough, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 2s}
  - {name: blackhole, type: STATIC}`)
			if got := n.talk("10.2.0.1:7070"); got != "endpoint 10.2.0.1:7070" {
				t.Errorf("a host outside: %q", got)
			}
			for _, own := range []string{"127.0.0.1:15001", "[::1]:15001", "10.1.1.2:15001"} {
				before := n.stat(t, "listener.0.0.0.0_15001.downstream_cx_total")
				_ = n.talk(own)
				made := n.stat(t, "listener.0.0.0.0_15001.downstream_cx_total") - before
				if tt.loops {
					if made < 10 {
						t.Errorf("%s makes %d connections: the chain may not be needed any more", own, made)
					}
					return
				}
				if made != 1 {
					t.Errorf("%s makes %d connections, want 1", own, made)
				}
			}
		})
	}
}
