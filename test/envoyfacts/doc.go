// Package envoyfacts holds what the mesh relies on in Envoy and cannot read in its
// documentation: each test starts a real Envoy with a small configuration and asks it.
// A test that fails after an upgrade of Envoy says which assumption no longer holds. It
// holds tests only, and needs OSM_TEST_ENVOY, the path of an Envoy.
package envoyfacts
