package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

func ensure(t *testing.T) spec.Tree {
	t.Helper()
	tree := spec.Tree(t.TempDir())
	s := spec.Spec{Name: "osm", CIDR: netip.MustParsePrefix("10.213.0.0/16"), IPv6: true}
	if err := Ensure(s, tree, time.Now()); err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestServersAreReachedByTheirNames(t *testing.T) {
	tree := ensure(t)
	tests := map[string]struct{ file, authority, name string }{
		"the API server by its address from the host": {"apiserver", "ca", "10.213.0.2"},
		"the API server by its service":               {"apiserver", "ca", "10.213.128.1"},
		"the API server by its service's IPv6":        {"apiserver", "ca", "fd6f:736d:ad5:2::1"},
		"the API server by its service's name":        {"apiserver", "ca", "kubernetes.default.svc"},
		"the kubelet by its address":                  {"kubelet", "ca", "10.213.0.2"},
		"etcd on the loopback":                        {"etcd", "etcd-ca", "127.0.0.1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			certificate := verify(t, tree, test.file, test.authority, x509.ExtKeyUsageServerAuth)
			if err := certificate.VerifyHostname(test.name); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatTheClusterSignsOpensNoOtherDoor(t *testing.T) {
	tree := ensure(t)
	for _, other := range []string{"etcd-ca", "front-proxy-ca"} {
		certificate := load(t, tree, "admin")
		_, err := certificate.Verify(x509.VerifyOptions{Roots: pool(t, tree, other), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			t.Errorf("the administrator's certificate passes at %s", other)
		}
	}
}

func TestTheNodeIsANodeAndNoAdministrator(t *testing.T) {
	certificate := load(t, ensure(t), "node")
	if got := certificate.Subject; got.CommonName != "system:node:osm-node" || len(got.Organization) != 1 || got.Organization[0] != "system:nodes" {
		t.Errorf("the kubelet calls itself %s", got)
	}
}

func TestASecondRunKeepsWhatIsThere(t *testing.T) {
	tree := ensure(t)
	before := map[string]string{}
	entries, err := os.ReadDir(tree.PKI(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		before[entry.Name()] = string(read(t, tree.PKI(entry.Name())))
	}
	s := spec.Spec{Name: "osm", CIDR: netip.MustParsePrefix("10.213.0.0/16"), IPv6: true}
	if err := Ensure(s, tree, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for name, content := range before {
		if string(read(t, tree.PKI(name))) != content {
			t.Errorf("%s is another now", name)
		}
	}
}

func TestKeysAreForRootOnly(t *testing.T) {
	tree := ensure(t)
	for _, path := range []string{tree.PKI("ca.key"), tree.PKI("sa.key"), tree.Kubeconfig()} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
	}
}

func TestTheKubeconfigHoldsAPair(t *testing.T) {
	tree := ensure(t)
	var config struct {
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := json.Unmarshal(read(t, tree.Kubeconfig()), &config); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(config.Users[0].User.Certificate, config.Users[0].User.Key); err != nil {
		t.Error(err)
	}
}

func verify(t *testing.T, tree spec.Tree, file, authority string, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	certificate := load(t, tree, file)
	_, err := certificate.Verify(x509.VerifyOptions{Roots: pool(t, tree, authority), KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return certificate
}

func load(t *testing.T, tree spec.Tree, file string) *x509.Certificate {
	t.Helper()
	certificate, _, err := readPair(tree.PKI(""), file)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func pool(t *testing.T, tree spec.Tree, authority string) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, tree.PKI(authority+".crt")))
	return roots
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
