package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxPodUID is the longest UID that Kubernetes takes in a request for a certificate.
const maxPodUID = 128

// podUIDOID is the OID of the extension that names the pod in a workload's
// certificate, by its UID as a UTF8String. It is not critical: whoever does not know
// it verifies the certificate all the same. The arc is the UUID
// cad19fe2-6e94-47fc-be2f-5b2d8d7c3155 under the one that Microsoft gives to whoever
// makes a UUID (record 0004 tells why not under 2.25).
func podUIDOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 51921, 40930, 28308, 18428, 48687, 5975437, 8139093, 1}
}

// subjectAltNameOID is the OID of the names in a certificate.
// Source: RFC 5280, section 4.2.1.6.
func subjectAltNameOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// PodUIDExtension returns the extension that names a pod.
func PodUIDExtension(uid string) (pkix.Extension, error) {
	if err := checkPodUID(uid); err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.MarshalWithParams(uid, "utf8")
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("%w: pod UID %q: %w", ErrInvalid, uid, err)
	}
	return pkix.Extension{Id: podUIDOID(), Value: value}, nil
}

// PodUIDOf reads the UID of a pod from the extensions of a certificate or of a
// request for one; empty if there is none.
func PodUIDOf(extensions []pkix.Extension) (string, error) {
	found := ""
	for _, e := range extensions {
		if !e.Id.Equal(podUIDOID()) {
			continue
		}
		uid, err := parsePodUID(e.Value)
		if err != nil {
			return "", err
		}
		if found != "" {
			return "", fmt.Errorf("%w: two UIDs of pods", ErrInvalid)
		}
		found = uid
	}
	return found, nil
}

func parsePodUID(value []byte) (string, error) {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(value, &raw)
	if err != nil || len(rest) != 0 || raw.Class != asn1.ClassUniversal || raw.Tag != asn1.TagUTF8String || raw.IsCompound {
		return "", fmt.Errorf("%w: the UID of a pod is no UTF8String", ErrInvalid)
	}
	uid := string(raw.Bytes)
	return uid, checkPodUID(uid)
}

func checkPodUID(uid string) error {
	if uid == "" || len(uid) > maxPodUID {
		return fmt.Errorf("%w: a pod's UID has 1 to %d characters", ErrInvalid, maxPodUID)
	}
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-_.:", r)
	}
	if strings.IndexFunc(uid, odd) >= 0 {
		return fmt.Errorf("%w: pod UID %q has characters that no UID has", ErrInvalid, uid)
	}
	return nil
}

// Peer is what the certificate of a workload says of its holder.
type Peer struct {
	ID ID
	// PodUID is the UID of the pod that the certificate was issued to; empty if it does not say.
	PodUID string
	// Serial and Issuer tell the certificate from others: the serial number in
	// hexadecimal and the issuer's key id.
	Serial, Issuer string
}

// PeerOf reads the certificate of a workload. It does not verify it: the chain must
// have been verified before.
func PeerOf(leaf *x509.Certificate) (Peer, error) {
	uri, err := uriOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	id, err := ParseURI(uri)
	if err != nil {
		return Peer{}, err
	}
	if leaf.IsCA {
		return Peer{}, fmt.Errorf("%w: %s is on the certificate of an authority", ErrInvalid, uri)
	}
	uid, err := PodUIDOf(leaf.Extensions)
	if err != nil {
		return Peer{}, fmt.Errorf("certificate of %s: %w", uri, err)
	}
	return Peer{
		ID: id, PodUID: uid, Serial: fmt.Sprintf("%x", leaf.SerialNumber), Issuer: fmt.Sprintf("%x", leaf.AuthorityKeyId),
	}, nil
}

// SubjectOf reads the certificate of whoever has a name in a mesh. As with PeerOf, the
// chain must have been verified before.
func SubjectOf(leaf *x509.Certificate) (Subject, error) {
	uri, err := uriOf(leaf)
	if err != nil {
		return Subject{}, err
	}
	if leaf.IsCA {
		return Subject{}, fmt.Errorf("%w: %s is on the certificate of an authority", ErrInvalid, uri)
	}
	return Parse(uri)
}

// uriOf returns the one URI of a parsed certificate, as it is written there: what
// net/url makes of it can differ, and others, such as Envoy, compare the bytes.
func uriOf(leaf *x509.Certificate) (string, error) {
	at := slices.IndexFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectAltNameOID()) })
	if at < 0 {
		return "", fmt.Errorf("%w: the certificate has no names", ErrInvalid)
	}
	var names []asn1.RawValue
	rest, err := asn1.Unmarshal(leaf.Extensions[at].Value, &names)
	if err != nil || len(rest) != 0 {
		return "", fmt.Errorf("%w: the names in the certificate cannot be read", ErrInvalid)
	}
	const uriTag = 6
	var uris []string
	for _, n := range names {
		if n.Class == asn1.ClassContextSpecific && n.Tag == uriTag {
			uris = append(uris, string(n.Bytes))
		}
	}
	if len(uris) != 1 {
		return "", fmt.Errorf("%w: a certificate of a mesh has one URI, this has %d", ErrInvalid, len(uris))
	}
	return uris[0], nil
}

// VerifyControlPlane verifies the certificates that a server presented: that a root
// signed the first, directly, and that it has the SPIFFE ID that is wanted. Intermediates
// are not accepted: what signs for workloads must not sign for control planes (record 0004).
func VerifyControlPlane(presented []*x509.Certificate, roots *x509.CertPool, want string, now time.Time) error {
	if len(presented) == 0 {
		return errors.New("the control plane has no certificate")
	}
	leaf := presented[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("verifying the control plane: %w", err)
	}
	subject, err := SubjectOf(leaf)
	if err != nil {
		return fmt.Errorf("verifying the control plane: %w", err)
	}
	if got := subject.URI(); got != want {
		return fmt.Errorf("the control plane is %s, not %s", got, want)
	}
	return nil
}
