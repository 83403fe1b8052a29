package cmd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

// TestWhatCertificatesWaitForIsReported has a pod ask while what signs is about to end, and
// reads what the operator is told: until there is something else to sign with.
func TestWhatCertificatesWaitForIsReported(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := startPlane(ctx, t)
	p.ready(ctx, t)
	now := time.Now()
	ending := p.authority.Certificate(t, "", pki.ByRoot(), pki.AsAuthority(), pki.Lifetime(now.Add(-time.Hour), now.Add(30*time.Minute)))
	sign := func(with pki.Credentials) {
		write(t, p.options.issuerDir, "tls.key", with.KeyPEM(t))
		write(t, p.options.issuerDir, "tls.crt", with.ChainPEM())
	}
	sign(ending)
	n := 0
	eventually(ctx, t, "a request that cannot be answered", func(ctx context.Context) error {
		// Those that come before the files are read again are answered.
		if n == 0 || p.issued(ctx, t, fmt.Sprint("web-", n)) {
			n++
			p.asks(ctx, t, p.pod(ctx, t, fmt.Sprint("web-", n), "web", fmt.Sprint("10.0.1.", n)))
		}
		_, body, err := get(ctx, p.options.httpPort, "/metrics")
		if err == nil && !strings.Contains(body, `osm_cert_waiting_count{reason="AuthorityUnavailable"}`) {
			err = errors.New("nothing waits")
		}
		return err
	})

	reports := report.NewCollector(func(_ context.Context, address string) (*grpc.ClientConn, error) {
		return grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: p.authority.Pool(), ServerName: "osm-controller-v1.osm-system.svc",
			Certificates: []tls.Certificate{p.authority.Operator(t, "osm").TLS()},
		})))
	}, func() {})
	defer reports.Close()
	reports.SetReplicas([]report.Replica{{Name: p.options.podName, Address: net.JoinHostPort("127.0.0.1", fmt.Sprint(p.options.reportPort))}})
	told := func(want int) func(context.Context) error {
		return func(context.Context) error {
			if f := reports.Facts(); !f.Known || f.Waiting["AuthorityUnavailable"] != want {
				return fmt.Errorf("told %+v, want %d", f, want)
			}
			return nil
		}
	}
	eventually(ctx, t, "it is told that a pod waits", told(1))
	sign(p.authority.Intermediate)
	eventually(ctx, t, "it is told that none waits any more", told(0))
}

// issued reports whether a request was answered with a certificate.
func (p *plane) issued(ctx context.Context, t *testing.T, name string) bool {
	t.Helper()
	var req certificatesv1.PodCertificateRequest
	must(t, p.Get(ctx, client.ObjectKey{Namespace: "shop", Name: name}, &req))
	return req.Status.CertificateChain != ""
}

// asks has a kubelet ask for the certificate of a pod.
func (p *plane) asks(ctx context.Context, t *testing.T, pod *corev1.Pod) {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, pki.NewKey(t))
	must(t, err)
	must(t, client.IgnoreAlreadyExists(p.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}})))
	must(t, p.Create(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: identity.SignerName("osm"), PodName: pod.Name, PodUID: pod.UID,
			ServiceAccountName: pod.Spec.ServiceAccountName, ServiceAccountUID: "account-uid",
			NodeName: "n1", NodeUID: "node-uid", MaxExpirationSeconds: new(int32(86400)), StubPKCS10Request: csr,
		},
	}))
}
