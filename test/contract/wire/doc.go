// Package wire says how a call ends by the configuration that proxies are sent: the
// resources of each proxy and a call go in, where the call ends, and with what share of
// its likelihood, comes out. It does what Envoy does with the part of its API that the
// control plane makes use of, and fails on the rest, so that nothing is taken for granted
// that was not looked at. It knows no policies.
package wire
