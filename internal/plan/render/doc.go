// Package render draws the objects of a mesh: what a plan decided goes in,
// Kubernetes objects come out, complete with names, labels and owner. It is pure
// and decides nothing; names of objects come from names.go alone.
package render
