package serve_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

const trustDomain = identity.TrustDomain("cluster.local")

// authority signs certificates in tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last atomic.Int64 // serial number
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key := newKey(tb)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{cert: sign(tb, template, template, key, key), key: key}
	a.last.Store(1)
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func sign(tb testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// leaf issues a certificate with these URIs, for a pod unless podUID is empty. Changes
// are made to the template before it is signed.
func (a *authority) leaf(tb testing.TB, podUID string, uris []string, changes ...func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.last.Add(1)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			tb.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	if podUID != "" {
		extension, err := identity.PodUIDExtension(podUID)
		if err != nil {
			tb.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{extension}
	}
	for _, change := range changes {
		change(template)
	}
	key := newKey(tb)
	c := sign(tb, template, a.cert, key, a.key)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

// controlPlane issues the server's certificate.
func (a *authority) controlPlane(tb testing.TB) tls.Certificate {
	tb.Helper()
	return a.leaf(tb, "", []string{identity.ControlPlane(trustDomain, "osm", "v1")}, func(c *x509.Certificate) { c.DNSNames = []string{"osm-controller"} })
}

// pod is a pod as the tests' API server knows it.
type pod struct {
	uid, namespace, name, sa, class string
}

func (p pod) id() identity.ID {
	return identity.ID{TrustDomain: trustDomain, ServiceAccount: identity.ServiceAccount{Namespace: p.namespace, Name: p.sa}}
}

func (p pod) node() string { return p.uid + "." + p.name + "." + p.namespace }

// workload issues the certificate of a pod.
func (a *authority) workload(tb testing.TB, p pod, changes ...func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	return a.leaf(tb, p.uid, []string{p.id().URI()}, changes...)
}

// selfSigned makes a certificate that a pod has signed itself.
func selfSigned(tb testing.TB, p pod) tls.Certificate {
	tb.Helper()
	a := newAuthority(tb)
	c := a.workload(tb, p)
	key := c.PrivateKey.(*ecdsa.PrivateKey)
	own := sign(tb, c.Leaf, c.Leaf, key, key)
	return tls.Certificate{Certificate: [][]byte{own.Raw}, PrivateKey: key, Leaf: own}
}
