// Package policy compiles a Model into what each class of proxies must do, in the
// intermediate representation, and into what is to be said of each policy object.
//
// It is pure, and one file is about one kind of policy. What cannot be read or
// resolved allows less, never more. Kinds that no file is about are neither followed
// nor reported. The package knows nothing of Envoy but the names of its clusters.
package policy
