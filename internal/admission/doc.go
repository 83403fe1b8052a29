// Package admission answers the API server's questions about new pods and policies:
// a request comes in, a patch or a refusal in words goes out. What a sidecar is and
// when a pod gets one is package inject's; what a policy means is package policy's.
package admission
