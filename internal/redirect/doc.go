// Package redirect sends a pod's TCP traffic through its sidecar. A Config goes in;
// Rules makes one nftables table of it, as plain data; Apply puts that table into the
// network namespace of the calling process, Verify reads it back, Remove takes it out.
// It talks netlink to the kernel and runs no program. It never reads or changes a
// table that is not its own, and does not touch UDP.
package redirect
