// Package agent keeps the files of a pod's identity where the kubelet cannot: it makes
// the key in the pod, proves itself to the control plane with a token that is bound to
// the pod, and writes certificate, key and roots to memory, in the form that a volume
// of the kubelet would have. It keeps no key but the one in the file, and shows none.
package agent
