package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// requestsOf returns the requests for certificates of a pod: one for each volume.
func requestsOf(ctx context.Context, pod *corev1.Pod) ([]certificatesv1.PodCertificateRequest, error) {
	var list certificatesv1.PodCertificateRequestList
	if err := shared.List(ctx, &list, client.InNamespace(pod.Namespace)); err != nil {
		return nil, fmt.Errorf("listing requests: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(r certificatesv1.PodCertificateRequest) bool { return r.Spec.PodUID != pod.UID }), nil
}

// answered waits until so many requests of a pod have a condition, and returns them with
// the reason of the last.
func answered(ctx context.Context, t *testing.T, pod *corev1.Pod, kind string, n int) (with []certificatesv1.PodCertificateRequest, reason string) {
	t.Helper()
	must(t, cluster.Until(ctx, fmt.Sprintf("%d certificates of %s to be %s", n, pod.Name, kind), func(ctx context.Context) (bool, error) {
		all, err := requestsOf(ctx, pod)
		if err != nil {
			return false, err
		}
		with = nil
		for _, r := range all {
			if c := meta.FindStatusCondition(r.Status.Conditions, kind); c != nil {
				with, reason = append(with, r), c.Reason
			}
		}
		if len(with) < n {
			return false, fmt.Errorf("%d of %d are", len(with), len(all))
		}
		return true, nil
	}))
	return with, reason
}

// TestSignerKnowsWhoAsks mounts the signer's volume by hand, as anybody can who may make
// pods, and asks the API server for certificates in the name of others.
func TestSignerKnowsWhoAsks(t *testing.T) {
	ctx := deadline(t, 3*time.Minute)
	const inside, outside = "e2e-attack-signer", "e2e-attack-signer-outside"
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	hand(ctx, t, inside, nil)
	hand(ctx, t, outside, nil)

	t.Run("A pod outside of the mesh gets no certificate, and does not start", func(t *testing.T) {
		stranger := attacker(ctx, t, outside, "stranger", podCertificate)
		must(t, cluster.Until(ctx, "the stranger's request", func(ctx context.Context) (bool, error) {
			requests, err := requestsOf(ctx, stranger)
			return len(requests) > 0, err
		}))
		// One that asks later, in the mesh, is answered: the signer is there.
		answered(ctx, t, attacker(ctx, t, inside, "later", podCertificate), certificatesv1.PodCertificateRequestConditionTypeIssued, 2)
		requests, err := requestsOf(ctx, stranger)
		must(t, err)
		for _, r := range requests {
			if len(r.Status.Conditions) != 0 || r.Status.CertificateChain != "" {
				t.Errorf("the stranger is answered: %+v", r.Status)
			}
		}
		must(t, shared.Get(ctx, client.ObjectKeyFromObject(stranger), stranger))
		if stranger.Status.Phase != corev1.PodPending {
			t.Errorf("the stranger is %s", stranger.Status.Phase)
		}
	})
	t.Run("A pod of the mesh gets its own name and no other", func(t *testing.T) {
		mallory := attacker(ctx, t, inside, "mallory", podCertificate)
		// One for the sidecar, and one for the volume that was mounted by hand.
		requests, _ := answered(ctx, t, mallory, certificatesv1.PodCertificateRequestConditionTypeIssued, 2)
		want := "spiffe://" + string(identity.DefaultTrustDomain) + "/ns/" + inside + "/sa/mallory"
		for _, r := range requests {
			chain, err := ca.ParseChain([]byte(r.Status.CertificateChain))
			must(t, err)
			peer, err := identity.PeerOf(chain.Leaf())
			must(t, err)
			if peer.ID.URI() != want || peer.PodUID != string(mallory.UID) {
				t.Errorf("the certificate is of %s, pod %s; want %s, pod %s", peer.ID.URI(), peer.PodUID, want, mallory.UID)
			}
		}
	})
	t.Run("Wishes written into the volume are denied", func(t *testing.T) {
		wishes := `{podCertificate: {signerName: identity.openservicemesh.io/` + meshName + `, keyType: ECDSAP256, credentialBundlePath: credentials.pem,
          userAnnotations: {identity.openservicemesh.io/service-account: admin}}}`
		_, reason := answered(ctx, t, attacker(ctx, t, inside, "wisher", wishes), certificatesv1.PodCertificateRequestConditionTypeDenied, 1)
		if reason != certificatesv1.PodCertificateRequestConditionInvalidUserConfig {
			t.Errorf("denied for %s, want %s", reason, certificatesv1.PodCertificateRequestConditionInvalidUserConfig)
		}
	})
	t.Run("Nobody asks in the name of another", func(t *testing.T) {
		server := workload{namespace: inside, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}}
		running(ctx, t, server)
		asksForOthers(ctx, t, podOf(ctx, t, server))
	})
}

// asksForOthers asks for a certificate of a pod as various users of the API server.
func asksForOthers(ctx context.Context, t *testing.T, victim *corev1.Pod) {
	t.Helper()
	// The control: nothing but who sends it is wrong with the request.
	must(t, shared.Create(ctx, requestFor(ctx, t, victim), client.DryRunAll))
	for name, who := range map[string]rest.ImpersonationConfig{
		"another ServiceAccount of the namespace": {
			UserName: "system:serviceaccount:" + victim.Namespace + ":mallory",
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + victim.Namespace, "system:authenticated"},
		},
		"the victim's own ServiceAccount": {
			UserName: "system:serviceaccount:" + victim.Namespace + ":" + victim.Spec.ServiceAccountName,
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + victim.Namespace, "system:authenticated"},
		},
		"the control plane": {
			UserName: "system:serviceaccount:" + meshNamespace + ":osm-controller",
			Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + meshNamespace, "system:authenticated"},
		},
		"another node": {UserName: "system:node:elsewhere", Groups: []string{"system:nodes", "system:authenticated"}},
	} {
		config := rest.CopyConfig(shared.Config)
		config.Impersonate = who
		c, err := client.New(config, client.Options{Scheme: shared.Scheme()})
		must(t, err)
		err = c.Create(ctx, requestFor(ctx, t, victim))
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s asks for a certificate of %s: %v, want it forbidden", name, victim.Name, err)
		}
	}
}

// requestFor is a request for a certificate of a pod, right in all but who sends it.
func requestFor(ctx context.Context, t *testing.T, pod *corev1.Pod) *certificatesv1.PodCertificateRequest {
	t.Helper()
	key, ok := pki.NewKey(t).(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal(errors.New("another kind of key"))
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	var account corev1.ServiceAccount
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}, &account))
	var node corev1.Node
	must(t, shared.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, &node))
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, GenerateName: "forged-"},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: identity.SignerName(meshName), PodName: pod.Name, PodUID: pod.UID,
			ServiceAccountName: account.Name, ServiceAccountUID: account.UID,
			NodeName: types.NodeName(node.Name), NodeUID: node.UID,
			MaxExpirationSeconds: new(int32(86400)), StubPKCS10Request: csr,
		},
	}
}
