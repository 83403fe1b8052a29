// Package report is what the replicas of a control plane tell the operator about
// their proxies. A replica keeps its proxies in a Store and serves it; the operator
// collects the stores of all replicas of a revision. What one replica does not tell
// is unknown, never zero.
package report
