// Package contract compares what is promised of a mesh with what proxies are sent: random
// sets of objects that are accepted, and random calls, go in; where package reading and
// package wire disagree about where a call ends is an error of one of them. It holds tests
// only.
package contract
