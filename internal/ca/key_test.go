package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/yaml"

	"github.com/openservicemesh/osm-operator/internal/ca"
)

// holder has keys where printers look for them.
type holder struct {
	Shown  ca.PrivateKey
	hidden ca.PrivateKey
	Behind *ca.PrivateKey
	Many   []ca.PrivateKey
}

func TestPrivateKeyShowsItselfToNobody(t *testing.T) {
	for _, kind := range []ca.KeyType{ca.ECDSAP256, ca.RSA2048, ca.ED25519} {
		t.Run(string(kind), func(t *testing.T) {
			key, err := ca.GenerateKey(kind)
			if err != nil {
				t.Fatal(err)
			}
			h := holder{Shown: key, hidden: key, Behind: &key, Many: []ca.PrivateKey{key}}
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
				for _, value := range []any{key, &key, h, &h, []any{key}, map[string]any{"key": key}, fmt.Errorf("wrapped: %v", key)} {
					fmt.Fprintf(&out, verb+"\n", value)
				}
			}
			for _, encode := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
				raw, err := encode(map[string]any{"key": key, "holder": h})
				if err != nil {
					t.Fatal(err)
				}
				out.Write(raw)
			}
			for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
				log := logr.FromSlogHandler(handler)
				log.Info("Key", "key", key, "holder", h, "pointer", &key)
				slog.New(handler).LogAttrs(t.Context(), slog.LevelInfo, "Key", slog.Any("key", key))
			}
			if text := out.String(); !strings.Contains(text, "REDACTED") || strings.Contains(text, "PRIVATE KEY") {
				t.Errorf("want REDACTED and no PEM in: %s", text)
			}
			for _, secret := range secrets(t, key) {
				if strings.Contains(out.String(), secret) {
					t.Errorf("part of the key is in what was printed: %s", out.String())
				}
			}
		})
	}
}

// secrets returns forms in which the private half could be printed.
func secrets(t *testing.T, key ca.PrivateKey) []string {
	t.Helper()
	var raw []byte
	switch k := key.Signer().(type) {
	case *ecdsa.PrivateKey:
		var err error
		if raw, err = k.Bytes(); err != nil {
			t.Fatal(err)
		}
	case *rsa.PrivateKey:
		raw = k.Primes[0].Bytes()
	case ed25519.PrivateKey:
		raw = k.Seed()
	default:
		t.Fatalf("a key of type %T", k)
	}
	raw = raw[:16]
	listed := strings.Trim(fmt.Sprintf("%d", raw[:8]), "[]")
	return []string{
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), base64.StdEncoding.EncodeToString(raw)[:16], listed,
		strings.ReplaceAll(listed, " ", ", "), string(raw),
	}
}

func TestPrivateKeyRoundTrip(t *testing.T) {
	for _, kind := range []ca.KeyType{ca.ECDSAP256, ca.ECDSAP384, ca.RSA2048, ca.ED25519} {
		key, err := ca.GenerateKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := key.PEM()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ca.ParsePrivateKey(raw)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if !again.Matches(key.Public()) {
			t.Errorf("%s: another key came back", kind)
		}
	}
}

func TestParsePrivateKeyReadsOlderForms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"PKCS#1": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)},
		"SEC 1":  {Type: "EC PRIVATE KEY", Bytes: ecDER},
	} {
		if _, err := ca.ParsePrivateKey(pem.EncodeToMemory(block)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	key, err := ca.GenerateKey(ca.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	good, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.MarshalPKCS8PrivateKey(p224)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	for name, raw := range map[string][]byte{
		"nothing":       nil,
		"no PEM":        []byte("hunter2"),
		"half of it":    good[:len(good)/2],
		"two keys":      append(bytes.Clone(good), good...),
		"a certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}),
		"broken DER":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[3:]}),
		"a weak key":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: weak}),
	} {
		_, err := ca.ParsePrivateKey(raw)
		if err == nil {
			t.Errorf("%s was taken for a key", name)
			continue
		}
		if len(raw) > 40 && strings.Contains(err.Error(), string(raw[30:40])) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes what was read: %v", name, err)
		}
	}
}

func TestNoKeyIsNoKey(t *testing.T) {
	var none ca.PrivateKey
	if none.Signer() != nil || none.Public() != nil || none.Matches(nil) {
		t.Error("the zero value holds a key")
	}
	if _, err := none.PEM(); err == nil {
		t.Error("the zero value was encoded")
	}
	if _, err := ca.GenerateKey("DSA"); err == nil {
		t.Error("a key of an unknown type was made")
	}
	var invalid *ca.InvalidError
	if err := ca.CheckPublicKey(none.Public()); !errors.As(err, &invalid) || invalid.Field != ca.FieldPublicKey {
		t.Errorf("CheckPublicKey of nothing: %v", err)
	}
}
