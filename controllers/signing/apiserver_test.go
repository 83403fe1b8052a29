package signing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/openservicemesh/osm-operator/controllers/signing"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

// control is a control plane whose issuer comes and goes, with one or more replicas.
type control struct {
	client client.Client
	signer string
	issuer atomic.Pointer[issue.Issuer]

	mu sync.Mutex
	// Protected by mu.
	issued  []issue.Issued
	waiting map[string]bool // pod UID and reason
}

func (c *control) records() []issue.Issued {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]issue.Issued(nil), c.issued...)
}

// run adds a replica, and returns its metrics.
func (c *control) run(ctx context.Context, t *testing.T, config *rest.Config) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewRegistry()
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: clientgoscheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)}, // each replica has a manager
		Cache:      cache.Options{ByObject: signing.CacheByObject(c.signer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := signing.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	err = signing.New(signing.Options{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Signer: c.signer, Issuer: c.issuer.Load,
		Issued: func(i issue.Issued) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.issued = append(c.issued, i)
		},
		Waiting: func(podUID, reason string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.waiting[podUID+" "+reason] = true
		},
		Metrics: metrics, Now: time.Now,
	}).SetupWithManager(mgr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager ended: %v", err)
		}
	})
	return registry
}

// pod makes a pod in a namespace of its own.
func (c *control) pod(ctx context.Context, t *testing.T) *corev1.Pod {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-"}}
	if err := c.client.Create(ctx, ns); err != nil {
		t.Fatal(err)
	}
	p := pod()
	p.ObjectMeta = metav1.ObjectMeta{Namespace: ns.Name, Name: "web-1"}
	if err := c.client.Create(ctx, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask makes a request, as the kubelet of the pod's node does.
func (c *control) ask(ctx context.Context, t *testing.T, p *corev1.Pod, change func(*certificatesv1.PodCertificateRequest)) *certificatesv1.PodCertificateRequest {
	t.Helper()
	req := request(t, p, c.signer)
	req.ObjectMeta = metav1.ObjectMeta{Namespace: p.Namespace, GenerateName: "req-"}
	if change != nil {
		change(req)
	}
	if err := c.client.Create(ctx, req); err != nil {
		t.Fatal(err)
	}
	return req
}

// await waits for the answer to a request.
func (c *control) await(ctx context.Context, t *testing.T, req *certificatesv1.PodCertificateRequest, want string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		if err := c.client.Get(ctx, client.ObjectKeyFromObject(req), req); err != nil {
			return false, err
		}
		return answerOf(req) != "", nil
	})
	if err != nil || answerOf(req) != want {
		t.Fatalf("answered %q (%+v), %v; want %q", answerOf(req), req.Status.Conditions, err, want)
	}
}

// start starts an API server, and on it a control plane with one replica.
func start(t *testing.T) (context.Context, *rest.Config, *control, *builtin.Authority, *prometheus.Registry) {
	t.Helper()
	config := apiserver.Start(t, apiserver.CRDs())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	c, err := client.New(config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	control, a := &control{client: c, signer: signer, waiting: map[string]bool{}}, authority(t)
	control.issuer.Store(issuerOf(t, a))
	registry := control.run(ctx, t, config)
	return ctx, config, control, a, registry
}

// TestKubernetesTakesTheAnswers runs against a real API server, whose rules for answers
// are what matters: it has KUBEBUILDER_ASSETS, or it is skipped.
func TestKubernetesTakesTheAnswers(t *testing.T) {
	ctx, config, control, a, registry := start(t)

	t.Run("A pod gets a certificate that says who it is", func(t *testing.T) {
		p := control.pod(ctx, t)
		req := control.ask(ctx, t, p, nil)
		control.await(ctx, t, req, "Issued Issued")
		chain, err := ca.ParseChain([]byte(req.Status.CertificateChain))
		if err != nil {
			t.Fatal(err)
		}
		peer, err := identity.PeerOf(chain.Leaf())
		if want := "spiffe://cluster.local/ns/" + p.Namespace + "/sa/web"; err != nil || peer.ID.URI() != want || peer.PodUID != string(p.UID) {
			t.Errorf("the certificate is of %+v, %v; want %s in pod %s", peer, err, want, p.UID)
		}
		if life := req.Status.NotAfter.Sub(req.Status.NotBefore.Time); life != 24*time.Hour {
			t.Errorf("good for %s, 24 hours were wanted at most", life)
		}
		if err := eventually(ctx, func() error { return recorded(control, peer) }); err != nil {
			t.Error(err)
		}
	})

	t.Run("The shortest and the longest life are taken", func(t *testing.T) {
		p := control.pod(ctx, t)
		for _, seconds := range []int32{3600, 3601, 91 * 86400} {
			req := control.ask(ctx, t, p, func(r *certificatesv1.PodCertificateRequest) { r.Spec.MaxExpirationSeconds = new(seconds) })
			control.await(ctx, t, req, "Issued Issued")
			if life, most := req.Status.NotAfter.Sub(req.Status.NotBefore.Time), time.Duration(seconds)*time.Second; life != min(most, ca.LeafLifetime) {
				t.Errorf("good for %s, %s were wanted at most", life, most)
			}
		}
	})

	t.Run("What can never become right is denied", func(t *testing.T) {
		p := control.pod(ctx, t)
		key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		for want, change := range map[string]func(*certificatesv1.PodCertificateRequest){
			"Denied PodReplaced":        func(r *certificatesv1.PodCertificateRequest) { r.Spec.PodUID = "another" },
			"Denied PodMismatch":        func(r *certificatesv1.PodCertificateRequest) { r.Spec.ServiceAccountName = "admin" },
			"Denied UnsupportedKeyType": func(r *certificatesv1.PodCertificateRequest) { r.Spec.StubPKCS10Request = csr },
			"Denied InvalidUnverifiedUserAnnotations": func(r *certificatesv1.PodCertificateRequest) {
				r.Spec.UnverifiedUserAnnotations = map[string]string{"a.b/c": "d"}
			},
		} {
			control.await(ctx, t, control.ask(ctx, t, p, change), want)
		}
	})

	t.Run("What is another signer's is left alone", func(t *testing.T) {
		p := control.pod(ctx, t)
		other := control.ask(ctx, t, p, func(r *certificatesv1.PodCertificateRequest) { r.Spec.SignerName = "identity.openservicemesh.io/other" })
		control.await(ctx, t, control.ask(ctx, t, p, nil), "Issued Issued")
		if err := control.client.Get(ctx, client.ObjectKeyFromObject(other), other); err != nil || answerOf(other) != "" {
			t.Errorf("answered %q, %v", answerOf(other), err)
		}
	})

	t.Run("Requests wait for an issuer, and for their pod", func(t *testing.T) {
		kept := control.issuer.Swap(nil)
		p := control.pod(ctx, t)
		early := control.ask(ctx, t, p, nil)
		control.waits(ctx, t, early, issue.ReasonNoIssuer)
		control.issuer.Store(kept)
		control.await(ctx, t, early, "Issued Issued")
		missing := control.ask(ctx, t, p, func(r *certificatesv1.PodCertificateRequest) { r.Spec.PodName = "web-2" })
		control.waits(ctx, t, missing, issue.ReasonPodNotFound)
	})

	t.Run("A wrong certificate is never given out", func(t *testing.T) {
		kept := control.issuer.Swap(issuerOf(t, forgetful{a}))
		req := control.ask(ctx, t, control.pod(ctx, t), nil)
		control.waits(ctx, t, req, issue.ReasonWrongCertificate)
		control.issuer.Store(kept)
		control.await(ctx, t, req, "Issued Issued")
	})

	t.Run("Several replicas give one answer each, and tell of it once", func(t *testing.T) {
		before := len(control.records())
		control.run(ctx, t, config)
		control.run(ctx, t, config)
		p := control.pod(ctx, t)
		const requests = 20
		var all []*certificatesv1.PodCertificateRequest
		for range requests {
			all = append(all, control.ask(ctx, t, p, nil))
		}
		serials := map[string]bool{}
		for _, req := range all {
			control.await(ctx, t, req, "Issued Issued")
			chain, err := ca.ParseChain([]byte(req.Status.CertificateChain))
			if err != nil {
				t.Fatal(err)
			}
			serials[fmt.Sprintf("%x", chain.Leaf().SerialNumber)] = true
		}
		err := eventually(ctx, func() error {
			if told := len(control.records()) - before; told != requests {
				return fmt.Errorf("told of %d certificates, %d were given out", told, requests)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for _, record := range control.records()[before:] {
			if !serials[record.Serial] {
				t.Errorf("told of certificate %s, which no pod has", record.Serial)
			}
		}
	})

	got := counted(t, registry)
	if got["osm_cert_issued_count"] == 0 || got["osm_cert_issued_count"] != got["osm_cert_issued_time"] {
		t.Errorf("counted %v", got)
	}
	for _, name := range []string{"osm_cert_denied_count PodReplaced", "osm_cert_waiting_count NoIssuer", "osm_cert_waiting_count WrongCertificate", "osm_cert_waiting_count PodNotFound"} {
		if got[name] == 0 {
			t.Errorf("%s was not counted: %v", name, got)
		}
	}
}

// forgetful drops the pod from what it signs.
type forgetful struct{ *builtin.Authority }

func (f forgetful) Issue(ctx context.Context, req ca.Request) (ca.Chain, error) {
	req.PodUID = ""
	return f.Authority.Issue(ctx, req)
}

// recorded reports why a certificate was not told of.
func recorded(c *control, peer identity.Peer) error {
	for _, r := range c.records() {
		if r.Serial == peer.Serial && r.Issuer == peer.Issuer && r.PodUID == peer.PodUID && r.ID == peer.ID {
			return nil
		}
	}
	return fmt.Errorf("nobody was told of certificate %s", peer.Serial)
}

// waits fails the test if a request is not left waiting for a reason.
func (c *control) waits(ctx context.Context, t *testing.T, req *certificatesv1.PodCertificateRequest, reason string) {
	t.Helper()
	err := eventually(ctx, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.waiting[string(req.Spec.PodUID)+" "+reason] {
			return fmt.Errorf("request %s was not left waiting because of %s: %v", req.Name, reason, c.waiting)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := c.client.Get(ctx, client.ObjectKeyFromObject(req), req); err != nil || answerOf(req) != "" {
		t.Errorf("request %s was answered %q, %v", req.Name, answerOf(req), err)
	}
}

// eventually waits until check finds nothing wrong.
func eventually(ctx context.Context, check func() error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(last, err)
	}
	return nil
}
