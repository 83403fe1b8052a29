// Package controlplane is the one place where the stages of the control plane meet:
// watch, mesh, policy, ir, xds. Models come in; each class of proxies gets what it
// must do, and each endpoint that moves goes to those who call it, by a path that
// rebuilds nothing else. What cannot be made leaves the last good in place.
package controlplane
