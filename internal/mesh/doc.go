// Package mesh is the immutable model of what the control plane knows: services,
// endpoints, workloads, identities, policies and settings, and what changed since
// the state before.
//
// Plain facts go in, in any order; a Model comes out, the same for the same facts.
// A Model and all that it points to are never changed once published: copy before
// edit. The package reads no cluster, knows no Envoy and decides nothing about
// traffic; that is the work of package policy.
package mesh
