// Package serve sends proxies their configuration: sets of resources by proxy class
// and load assignments by name go in; a delta stream of Envoy's aggregated discovery
// service, authenticated by the pod's certificate, goes out to each proxy, and what
// proxies acknowledge or reject is told to whoever asks.
//
// The loop of each stream is go-control-plane's; what it sends is decided here.
//
//	SetClass ─┐                          ┌─ stream ── what this proxy has, and
//	          ├─ Cache: who is concerned ─┤            what it is owed, by type
//	SetShared ┘   (marks, never sends)    └─ stream ── its own goroutine sends
//
// A change marks names at the streams that asked for them, and wakes those whose last
// response of that type is acknowledged; the others take it up with their next
// acknowledgement. So the first change is sent at once, and a burst costs one
// response for each round trip. Versions are hashes of contents: replicas agree, and
// a proxy that changes from one to another is sent what differs.
//
// The package knows names, versions and bytes. It does not know the mesh, makes no
// resources and reads no cluster; the one field of Envoy's that it looks at is the
// name of a cluster's load assignment.
package serve
