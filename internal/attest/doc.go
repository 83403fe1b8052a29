// Package attest gives pods their certificates where the kubelet cannot. The control
// plane serves it: a token that is bound to a pod, and a PKCS#10 request, come in; a
// certificate for that pod goes out, and word of new roots and of when to renew. Who a
// pod is, the API server says; what a certificate says, and who is denied one, is
// package issue's. Below it, package agent is the side of the pod.
package attest
