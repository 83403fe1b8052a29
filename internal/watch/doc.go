// Package watch is the only reader of Kubernetes in the control plane: informers'
// events go in, Models of package mesh and what changed in them come out, the newest
// only. Nothing comes out before everything has been read once, since what has not
// been read is not the same as what is not there.
package watch
