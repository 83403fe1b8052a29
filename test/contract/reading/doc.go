// Package reading says how a call ends in a mesh by the plain words of what users are
// promised: objects as users write them, and a call, go in; where the call ends, and with
// what share of its likelihood, comes out. It is slow and remembers nothing, so that each
// sentence of the promise is a few lines here. It knows neither the compiler of policies
// nor Envoy, whose work it is compared with.
package reading
