// Package policy compiles a Model into what each class of proxies must do, in the
// intermediate representation, and into what is to be said of each policy object. It
// is pure; one file is about one kind of policy. What cannot be read or resolved
// allows less, never more.
package policy
