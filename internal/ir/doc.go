// Package ir is the intermediate representation: plain structs that say what one
// proxy must do. Policies of every kind are compiled into it; Envoy resources are
// translated from it. It knows neither Kubernetes objects nor Envoy.
//
// Values are immutable once published. A *Destination and a *Cluster may be shared
// by the proxies of many classes: where two proxies must do the same, they hold
// the same pointer, and a translator may remember what it made of it.
package ir
