// Package netns makes network namespaces for tests of what changes a host's network:
// a namespace, code run inside it, and links between two. Names and addresses come in,
// namespaces come out; nothing outside them is changed and nothing is left behind.
// It needs Linux and root.
package netns
