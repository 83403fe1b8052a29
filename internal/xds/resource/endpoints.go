package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// EndpointsName returns the name of the load assignment that holds the endpoints of
// these sets, in whatever order. Several sets share one name only where clusters do,
// so the rest of a long list is told by a hash.
func EndpointsName(sets []ir.EndpointSet) string {
	names := make([]string, 0, len(sets))
	for _, s := range sets {
		names = append(names, endpointSetName(s))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 1 {
		return names[0]
	}
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return "sets|" + strconv.Itoa(len(names)) + "|" + hex.EncodeToString(sum[:12])
}

func endpointSetName(s ir.EndpointSet) string {
	n := name.Endpoints(s.Service.Namespace, s.Service.Name, s.Service.Port, s.ServiceAccounts, s.MeshedOnly, s.Zone, s.Node)
	if s.Passthrough {
		n += "|passthrough"
	}
	return n
}
