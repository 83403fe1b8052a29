package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	// minRSABits is the weakest RSA key that is taken, maxRSABits the slowest.
	minRSABits, maxRSABits = 2048, 4096
	// redacted is what is shown of a private key.
	redacted = "REDACTED"
)

// KeyType is a kind of private keys, named as Kubernetes does.
type KeyType string

// The kinds of keys of authorities.
const (
	ECDSAP256 KeyType = "ECDSAP256"
	ECDSAP384 KeyType = "ECDSAP384"
	RSA2048   KeyType = "RSA2048"
	RSA3072   KeyType = "RSA3072"
	RSA4096   KeyType = "RSA4096"
	ED25519   KeyType = "ED25519"
)

// PrivateKey is a private key that does not show itself: whatever prints it, logs it
// or encodes it gets REDACTED. The zero value holds no key.
type PrivateKey struct {
	// held is a function since some printers go around the methods, as fmt does where a
	// PrivateKey is in a field that is not exported: they find an address.
	held func() crypto.Signer
}

func hold(signer crypto.Signer) PrivateKey {
	return PrivateKey{held: func() crypto.Signer { return signer }}
}

// GenerateKey makes a key.
func GenerateKey(kind KeyType) (PrivateKey, error) {
	var (
		signer crypto.Signer
		err    error
	)
	switch kind {
	case ECDSAP256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		signer, err = rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		signer, err = rsa.GenerateKey(rand.Reader, 4096)
	case ED25519:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		return PrivateKey{}, fmt.Errorf("there are no keys of type %q", kind)
	}
	if err != nil {
		return PrivateKey{}, fmt.Errorf("making a key of type %s: %w", kind, err)
	}
	return hold(signer), nil
}

// ParsePrivateKey reads a key from PEM: PKCS#8, or one of the older forms. Its errors
// tell nothing of what it read.
func ParsePrivateKey(raw []byte) (PrivateKey, error) {
	block, rest := pem.Decode(raw)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return PrivateKey{}, errors.New("want one private key in PEM")
	}
	var (
		parsed any
		err    error
	)
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return PrivateKey{}, errors.New("the PEM block is no private key")
	}
	if err != nil {
		return PrivateKey{}, errors.New("the private key cannot be read") // the cause could quote it
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return PrivateKey{}, errors.New("the private key cannot sign")
	}
	if err := CheckPublicKey(signer.Public()); err != nil {
		return PrivateKey{}, err
	}
	return hold(signer), nil
}

// Signer returns the key for the use of it; nil if there is none.
func (k PrivateKey) Signer() crypto.Signer {
	if k.held == nil {
		return nil
	}
	return k.held()
}

// Public returns the public half; nil if there is no key.
func (k PrivateKey) Public() crypto.PublicKey {
	if k.held == nil {
		return nil
	}
	return k.held().Public()
}

// PEM returns the key as PKCS#8. It is the one way out: what is done with the result
// is in the caller's hands.
func (k PrivateKey) PEM() ([]byte, error) {
	if k.held == nil {
		return nil, errors.New("there is no private key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.held())
	if err != nil {
		return nil, errors.New("the private key cannot be encoded") // the cause could quote it
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// String implements fmt.Stringer.
func (PrivateKey) String() string { return redacted }

// Format implements fmt.Formatter, for every verb.
func (PrivateKey) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler.
func (PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalLog implements logr.Marshaler.
func (PrivateKey) MarshalLog() any { return redacted }

// Matches reports whether a public key is the other half.
func (k PrivateKey) Matches(public crypto.PublicKey) bool {
	return k.held != nil && sameKey(k.Public(), public)
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// CheckPublicKey returns an *InvalidError where a key is of a kind that is not
// certified: ECDSA on P-256 or P-384, Ed25519, and RSA of 2048 to 4096 bits are.
func CheckPublicKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return checkECDSA(key)
	case *rsa.PublicKey:
		return checkRSA(key)
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return invalid(FieldPublicKey, "the Ed25519 key has %d bytes", len(key))
		}
		return nil
	default:
		return invalid(FieldPublicKey, "a key of type %T is not taken: use ECDSAP256", public)
	}
}

// checkKeys checks the key of a request, and its private half where that is there.
func checkKeys(public crypto.PublicKey, private PrivateKey) error {
	if err := CheckPublicKey(public); err != nil {
		return err
	}
	if private.held != nil && !private.Matches(public) {
		return invalid(FieldPublicKey, "the private key is not its other half")
	}
	return nil
}

func checkECDSA(key *ecdsa.PublicKey) error {
	if key == nil || key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return invalid(FieldPublicKey, "an ECDSA key of this curve is not taken: use ECDSAP256 or ECDSAP384")
	}
	if key.X == nil || key.Y == nil { //nolint:staticcheck // ECDH panics without them
		return invalid(FieldPublicKey, "the ECDSA key is empty")
	}
	if _, err := key.ECDH(); err != nil {
		return invalid(FieldPublicKey, "the ECDSA key is no point on its curve")
	}
	return nil
}

func checkRSA(key *rsa.PublicKey) error {
	if key == nil || key.N == nil {
		return invalid(FieldPublicKey, "the RSA key is empty")
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return invalid(FieldPublicKey, "an RSA key of %d bits is not taken: use RSA3072 or RSA4096", bits)
	}
	if key.E < 65537 || key.E%2 == 0 || key.N.Bit(0) == 0 {
		return invalid(FieldPublicKey, "the RSA key is weak: its exponent is %d", key.E)
	}
	return nil
}

// KeyID returns the identifier of a public key in certificates.
// Source: RFC 7093, section 2, method 1.
func KeyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}
