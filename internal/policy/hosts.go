package policy

import (
	"net/netip"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// clusterHosts ends the host names of Services, whatever the cluster's own domain is.
const clusterHosts = "svc.cluster.local"

// serviceNames returns the names that a Service goes by everywhere, from short to long.
func serviceNames(service mesh.Key) []string {
	short := service.Name + "." + service.Namespace
	return []string{short, short + ".svc", short + ".svc.cluster", short + "." + clusterHosts}
}

// headlessHosts returns the hosts that tell requests to one headless Service from those
// to another on the same port; the bare name is known in the Service's own namespace
// only. With pods, those of its pods are among them: <pod>.<any of its names>, but not
// below the bare name, since "*.app" would also be a name of hosts outside. A host that
// is not among them is told by the address that it was found at.
func headlessHosts(service mesh.Key, same, pods bool) []string {
	var out []string
	if same {
		out = append(out, service.Name)
	}
	for _, n := range serviceNames(service) {
		out = append(out, n)
		if pods {
			out = append(out, "*."+n)
		}
	}
	return out
}

// serviceOf returns the Service that a full host name is for.
func serviceOf(host string) (mesh.Key, bool) {
	names, ok := strings.CutSuffix(host, "."+clusterHosts)
	if !ok {
		return mesh.Key{}, false
	}
	service, namespace, ok := strings.Cut(names, ".")
	if !ok || service == "" || namespace == "" || strings.Contains(namespace, ".") {
		return mesh.Key{}, false
	}
	return mesh.Key{Namespace: namespace, Name: service}, true
}

// validHost reports whether a name is a host's, possibly with a wildcard for its beginning.
func validHost(n string) bool {
	if n == "*" {
		return true
	}
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }
	for label := range strings.SplitSeq(strings.TrimPrefix(n, "*."), ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, odd) {
			return false
		}
	}
	return len(n) <= 253
}

// parseRange reads a range of addresses in CIDR form. One of IPv4 in the form of IPv6
// is none: nothing comes from there.
func parseRange(word string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(word)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}
