//go:build linux

package envoyfacts

import (
	"fmt"
	"strings"
	"testing"
)

// named is an HTTP filter chain that answers with a name and what Envoy holds for the
// address that the client called.
func named(name string) string {
	return fmt.Sprintf(`
      filter_chains:
      - filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: %[1]q
            http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
            local_reply_config: {body_format: {text_format_source: {inline_string: "%%LOCAL_REPLY_BODY%% %%DOWNSTREAM_LOCAL_ADDRESS%%"}}}
            route_config:
              virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: %[1]q}}}]}]`, name)
}

// catchAll is a listener that the kernel redirects to.
func catchAll(address, name string) string {
	return `
    - name: outbound-listener
      address: ` + address + `
      use_original_dst: true` + named(name)
}

func TestListenersTakeRedirectedConnections(t *testing.T) {
	t.Parallel()
	bound := map[string]string{
		"one wildcard address for both families": `{socket_address: {address: "::", port_value: 15001, ipv4_compat: true}}`,
		"an address for each family": `{socket_address: {address: 0.0.0.0, port_value: 15001}}
      additional_addresses: [{address: {socket_address: {address: "::", port_value: 15001}}}]`,
	}
	wildcard := map[string]string{
		"one wildcard address for both families": `{socket_address: {address: "::", port_value: 8080, ipv4_compat: true}}`,
		"an address for each family": `{socket_address: {address: 0.0.0.0, port_value: 8080}}
      additional_addresses: [{address: {socket_address: {address: "::", port_value: 8080}}}]`,
	}
	for name, address := range bound {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start(t, `
static_resources:
  listeners:`+catchAll(address, "catch-all")+`
    - name: exact4
      address: {socket_address: {address: 10.96.0.1, port_value: 80}}
      bind_to_port: false`+named("exact4")+`
    - name: exact-among-wildcards
      address: {socket_address: {address: 10.96.0.2, port_value: 8080}}
      bind_to_port: false`+named("exact-among-wildcards")+`
    - name: exact6
      address: {socket_address: {address: "fd00:10:96::1", port_value: 80}}
      bind_to_port: false`+named("exact6")+`
    - name: exact-both
      address: {socket_address: {address: 10.96.0.3, port_value: 80}}
      additional_addresses: [{address: {socket_address: {address: "fd00:10:96::3", port_value: 80}}}]
      bind_to_port: false`+named("exact-both")+`
    - name: wildcard
      address: `+wildcard[name]+`
      bind_to_port: false`+named("wildcard")+`
`)
			for to, want := range map[string]string{
				"10.96.0.1:80":         "200 exact4 10.96.0.1:80",
				"10.96.0.1:81":         "200 catch-all 10.96.0.1:81",
				"10.96.0.2:8080":       "200 exact-among-wildcards 10.96.0.2:8080",
				"10.96.0.1:8080":       "200 wildcard 10.96.0.1:8080",
				"10.2.0.1:8080":        "200 wildcard 10.2.0.1:8080",
				"10.2.0.1:80":          "200 catch-all 10.2.0.1:80",
				"10.96.0.3:80":         "200 exact-both 10.96.0.3:80",
				"[fd00:10:96::1]:80":   "200 exact6 [fd00:10:96::1]:80",
				"[fd00:10:96::3]:80":   "200 exact-both [fd00:10:96::3]:80",
				"[fd00:10:96::9]:8080": "200 wildcard [fd00:10:96::9]:8080",
				"[fd00:10:96::9]:80":   "200 catch-all [fd00:10:96::9]:80",
			} {
				if got := n.get(to, "any", "/").String(); got != want {
					t.Errorf("%s: %q, want %q", to, got, want)
				}
			}
			if t.Failed() {
				t.Log(strings.ReplaceAll(n.admin("/listeners"), "::", " "))
			}
		})
	}
}
