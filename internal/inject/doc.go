// Package inject adds the mesh's sidecar to a pod, and takes it out again. A pod, its
// namespace and the mesh's settings go in; the changed pod, or the reason why it is
// left alone, comes out. It is pure and serves the webhook and the CLI alike; doing
// it twice is doing it once, and Remove gives back what Pod was given.
package inject
