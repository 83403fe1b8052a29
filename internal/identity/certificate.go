package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// podUIDArc is the last arc of the extension's OID: the UUID
// 00000000-0000-0000-51a8-6c0e9d3b7f42 as a number, under 2.25, the arc of UUIDs.
const podUIDArc = 0x51a86c0e9d3b7f42

// podUIDOID returns the OID of the extension that names the pod in a workload's
// certificate, by its UID as a UTF8String. It is not critical: whoever does not know
// it verifies the certificate all the same.
// Source: ITU-T X.667 for the arc.
func podUIDOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 25, podUIDArc} }

// PodUIDExtension returns the extension that names a pod.
func PodUIDExtension(uid string) (pkix.Extension, error) {
	if uid == "" || len(uid) > 128 {
		return pkix.Extension{}, fmt.Errorf("%w: a pod's UID has 1 to 128 characters", ErrInvalid)
	}
	value, err := asn1.MarshalWithParams(uid, "utf8")
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("%w: pod UID %q: %w", ErrInvalid, uid, err)
	}
	return pkix.Extension{Id: podUIDOID(), Value: value}, nil
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
	if len(leaf.URIs) != 1 {
		return Peer{}, fmt.Errorf("%w: a workload's certificate has one URI, this has %d", ErrInvalid, len(leaf.URIs))
	}
	id, err := ParseURI(leaf.URIs[0].String())
	if err != nil {
		return Peer{}, err
	}
	if leaf.IsCA {
		return Peer{}, fmt.Errorf("%w: %s is on the certificate of an authority", ErrInvalid, id.URI())
	}
	peer := Peer{ID: id, Serial: fmt.Sprintf("%x", leaf.SerialNumber), Issuer: fmt.Sprintf("%x", leaf.AuthorityKeyId)}
	for _, extension := range leaf.Extensions {
		if !extension.Id.Equal(podUIDOID()) {
			continue
		}
		rest, err := asn1.UnmarshalWithParams(extension.Value, &peer.PodUID, "utf8")
		if err != nil || len(rest) != 0 || peer.PodUID == "" {
			return Peer{}, fmt.Errorf("%w: the pod's UID on the certificate of %s cannot be read", ErrInvalid, id.URI())
		}
	}
	return peer, nil
}
