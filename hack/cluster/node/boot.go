// Package node is the inside of a cluster's node: the process that is number one
// in the node's own namespaces. What the host decided comes in once, on standard
// input; mounts, addresses and running programs come out, and a file that says
// how the programs fare. It changes nothing outside its namespaces but the
// cluster's own state folder.
package node

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

// Boot is what the host tells the node. The node waits for it, so that the host
// can first move the process into its control group and plug in its network.
type Boot struct {
	// Spec is the cluster.
	Spec spec.Spec `json:"spec"`
	// State and Cache are the host's folders.
	State string `json:"state"`
	Cache string `json:"cache"`
	// Parts are the folders of the built parts below Cache, by name.
	Parts map[string]string `json:"parts"`
	// CgroupRoot is the group that the pods go below.
	CgroupRoot string `json:"cgroupRoot"`
}

// ReadBoot waits for the host's word.
func ReadBoot(in io.Reader) (Boot, error) {
	var boot Boot
	if err := json.NewDecoder(in).Decode(&boot); err != nil {
		return Boot{}, fmt.Errorf("the host ended before the node could start: %w", err)
	}
	return boot, boot.Spec.Check()
}

// Where things are inside the node, whatever they are called on the host.
const (
	home       = "/run/osm-cluster"
	stateMount = home + "/state"
	cacheMount = home + "/cache"
	// RuntimeSocket is containerd's, as seen in the node.
	RuntimeSocket = "/run/containerd/containerd.sock"
)
