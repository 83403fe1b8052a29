package mesh

import "net/netip"

// Slice is a part of the endpoints of a Service, as an EndpointSlice holds it.
type Slice struct {
	Key
	Service Key
	// Ports are port numbers by the names of the Service's ports; a single port may
	// have the empty name.
	Ports     map[string]uint16
	Endpoints []SliceEndpoint
}

// SliceEndpoint is one endpoint of a Slice.
type SliceEndpoint struct {
	Addresses                   []netip.Addr
	Ready, Serving, Terminating bool
	Hostname, Node, Zone        string
	ZoneHints                   []string
	Pod                         Key
}

// Pod is what decides about a pod's proxy.
type Pod struct {
	Workload
	Labels map[string]string
	// NamedPorts are the numbers of named container ports.
	NamedPorts map[string]uint16
	// Scrape is the annotation prometheus.io/scrape.
	Scrape bool
	// Ended says that the pod has succeeded or failed: it serves no more.
	Ended bool
}
