//go:build linux

package envoyfacts

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// volume is a folder that is changed as the kubelet changes one: the files are links
// into a folder that a link names, which is put in place whole.
type volume struct {
	dir   string
	round int
}

// put writes files and makes them visible at once.
func (v *volume) put(t *testing.T, files map[string][]byte) {
	t.Helper()
	v.round++
	data := fmt.Sprintf("..round-%d", v.round)
	if err := os.MkdirAll(filepath.Join(v.dir, data), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(v.dir, data, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(data, filepath.Join(v.dir, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if v.round > 1 {
		if err := os.RemoveAll(filepath.Join(v.dir, fmt.Sprintf("..round-%d", v.round-1))); err != nil {
			t.Fatal(err)
		}
	}
}

// bundle makes a key and a certificate with a serial number: one file, the key first.
func bundle(t *testing.T, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "workload"}, DNSNames: []string{"workload"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

func TestCertificateFromAWatchedFolder(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	credentials, documents := &volume{dir: filepath.Join(n.dir, "identity")}, &volume{dir: filepath.Join(n.dir, "config")}
	credentials.put(t, map[string][]byte{"credentials.pem": bundle(t, 1)})
	file := filepath.Join(credentials.dir, "credentials.pem")
	documents.put(t, map[string][]byte{"sds.json": []byte(`{"resources": [{
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "workload-certificate",
		"tls_certificate": {
			"certificate_chain": {"filename": "` + file + `"}, "private_key": {"filename": "` + file + `"},
			"watched_directory": {"path": "` + credentials.dir + `"}}}]}`)})
	n.start(t, `
static_resources:
  listeners:
  - name: tls
    address: {socket_address: {address: 0.0.0.0, port_value: 15443}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificate_sds_secret_configs:
            - {name: workload-certificate, sds_config: {path_config_source: {path: `+filepath.Join(documents.dir, "sds.json")+`}, resource_api_version: V3}}
      filters:
      - name: echo
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}
`)
	// dial returns a connection and the serial number of the server's certificate. The
	// inbound listener is reached from inside over loopback.
	dial := func() (*tls.Conn, int64) {
		t.Helper()
		var conn net.Conn
		if err := n.inside.DoAs(appUID, func() (err error) {
			conn, err = net.DialTimeout("tcp", "127.0.0.1:15443", patience)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		_ = c.SetDeadline(time.Now().Add(patience))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	old, serial := dial()
	defer old.Close()
	if serial != 1 {
		t.Fatalf("certificate %d, want 1", serial)
	}
	for next := int64(2); next <= 3; next++ {
		credentials.put(t, map[string][]byte{"credentials.pem": bundle(t, next)})
		began := time.Now()
		n.eventually(t, "the new certificate is served", func() bool {
			c, serial := dial()
			_ = c.Close()
			return serial == next
		})
		t.Logf("certificate %d is served after %s", next, time.Since(began))
	}
	// Half a change is none: a certificate without its key leaves the last good one.
	broken, _, _ := strings.Cut(string(bundle(t, 4)), "-----BEGIN CERTIFICATE")
	credentials.put(t, map[string][]byte{"credentials.pem": []byte(broken)})
	n.eventually(t, "the broken file is refused", func() bool {
		return n.stat(t, "listener.0.0.0.0_15443.server_ssl_socket_factory.ssl_context_update_by_sds") >= 2 && strings.Contains(n.admin("/stats?filter=sds"), "key_rotation_failed: 1")
	})
	if _, serial := dial(); serial != 3 {
		t.Errorf("after a broken file certificate %d, want 3", serial)
	}
	if _, err := io.WriteString(old, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(old).ReadString('\n'); err != nil || line != "still here\n" {
		t.Errorf("the first connection: %q, %v", line, err)
	}
}
