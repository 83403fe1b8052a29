package cmd

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/attest/agent"
	"github.com/openservicemesh/osm-operator/internal/attest/attestpb"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/internal/xds/resource"
)

const audience = "identity.openservicemesh.io/osm"

// token has the API server make a token of a ServiceAccount, bound to a pod if there is one.
func (p *plane) token(ctx context.Context, t *testing.T, namespace, account, audience string, pod *corev1.Pod) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: new(int64(600))}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	must(t, p.SubResource("token").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}, request))
	return request.Status.Token
}

// TestPodsProveThemselvesWithTokens has a real API server say who pods are.
func TestPodsProveThemselvesWithTokens(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := startPlane(ctx, t)
	p.ready(ctx, t)
	must(t, p.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	must(t, p.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "else"}}))
	for _, at := range []string{"shop", "else"} {
		must(t, client.IgnoreAlreadyExists(p.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: at, Name: "web"}})))
	}
	web, gone := p.pod(ctx, t, "web-1", "web", "10.0.0.2"), p.pod(ctx, t, "web-2", "web", "10.0.0.3")
	outside := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "else", Name: "web-3"},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "n1", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	must(t, p.Create(ctx, outside))

	t.Run("the agent keeps the files of the sidecar", func(t *testing.T) { p.runAgent(ctx, t, web) })

	late := p.token(ctx, t, "shop", "web", audience, gone)
	must(t, p.Delete(ctx, gone, client.GracePeriodSeconds(0)))
	for name, tc := range map[string]struct {
		token string
		want  codes.Code
	}{
		"a token of its pod":                            {p.token(ctx, t, "shop", "web", audience, web), codes.OK},
		"a token for the API server":                    {p.token(ctx, t, "shop", "web", "https://kubernetes.default.svc", web), codes.Unauthenticated},
		"a token for another mesh":                      {p.token(ctx, t, "shop", "web", audience+"-2", web), codes.Unauthenticated},
		"a token that is bound to no pod":               {p.token(ctx, t, "shop", "web", audience, nil), codes.Unauthenticated},
		"a token of a pod that is gone":                 {late, codes.Unauthenticated},
		"a token that nobody signed":                    {"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3ZWIifQ.", codes.Unauthenticated},
		"a token of a pod outside of the mesh, for now": {p.token(ctx, t, "else", "web", audience, outside), codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := p.askIdentity(ctx, t, tc.token)
			if status.Code(err) != tc.want {
				t.Errorf("answered %v, want %s", err, tc.want)
			}
			if (len(response.GetChainPem()) > 0) != (tc.want == codes.OK) {
				t.Errorf("a chain of %d bytes", len(response.GetChainPem()))
			}
		})
	}
}

func (p *plane) identityAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.options.identityPort))
}

// runAgent runs "osm identity" for a pod until its sidecar could start.
func (p *plane) runAgent(ctx context.Context, t *testing.T, pod *corev1.Pod) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "token", []byte(p.token(ctx, t, pod.Namespace, pod.Spec.ServiceAccountName, audience, pod)))
	files := agent.Files{Credentials: filepath.Join(dir, "credentials.pem"), Roots: filepath.Join(dir, "ca.pem")}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- agent.Run(running, agent.Options{
			Target: p.identityAddress(), ServerID: identity.ControlPlane("cluster.local", "osm", "v1"),
			TokenFile: filepath.Join(dir, "token"), Files: files, FirstRoots: p.authority.RootsPEM(),
		})
	}()
	defer func() {
		stop()
		must(t, <-done)
	}()
	eventually(ctx, t, "the files are there", func(context.Context) error {
		if !files.Complete() {
			return errors.New("not yet")
		}
		return nil
	})
	raw, err := os.ReadFile(files.Credentials)
	must(t, err)
	pair, err := tls.X509KeyPair(raw, raw)
	must(t, err)
	peer, err := identity.PeerOf(pair.Leaf)
	if err != nil || peer.PodUID != string(pod.UID) || peer.ID.URI() != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("the certificate is of %+v, %v", peer, err)
	}
	// The stream of configuration takes the certificate for the pod.
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		t.Fatalf("the key is a %T", pair.PrivateKey)
	}
	own := pki.Credentials{Key: key}
	for _, der := range pair.Certificate {
		certificate, err := x509.ParseCertificate(der)
		must(t, err)
		own.Chain = append(own.Chain, certificate)
	}
	sidecar := connectProxy(t, p.options.xdsPort, p.authority, own, nodeOf(pod))
	sidecar.until(t, "the roots", func() bool { return slices.Contains(sidecar.has(resource.SecretType), "trust-bundle") })
}

// askIdentity asks for a certificate with a token.
func (p *plane) askIdentity(ctx context.Context, t *testing.T, token string) (*attestpb.IssueResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(p.identityAddress(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: p.authority.Pool(), ServerName: "osm-controller-v1.osm-system.svc", MinVersion: tls.VersionTLS13,
	})))
	must(t, err)
	defer conn.Close()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, pki.NewKey(t))
	must(t, err)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", fmt.Sprintf("Bearer %s", token))
	return attestpb.NewWorkloadIdentityClient(conn).Issue(ctx, &attestpb.IssueRequest{Csr: csr})
}
