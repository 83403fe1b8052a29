// Package cli is what an administrator types: the verbs of the osm command that
// work on a cluster from outside. Flags and a cluster come in, text for people or
// JSON and YAML for programs goes out. Verbs and flags are Open Service Mesh's.
package cli
