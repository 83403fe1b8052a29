package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

// organization is in the subject of all authorities that the mesh makes.
const organization = "openservicemesh.io"

// LeafTemplate is what the certificate for a request says, its serial number and its life
// aside.
func LeafTemplate(req Request) (*x509.Certificate, error) {
	uri, err := url.Parse(req.URI)
	if err != nil {
		return nil, fmt.Errorf("writing %s into a certificate: %w", req.URI, err)
	}
	template := &x509.Certificate{
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           req.extKeyUsage(),
		URIs:                  []*url.URL{uri},
		DNSNames:              req.DNSNames,
	}
	if req.PodUID != "" {
		pod, err := identity.PodUIDExtension(req.PodUID)
		if err != nil {
			return nil, err
		}
		template.ExtraExtensions = []pkix.Extension{pod}
	}
	return template, nil
}

// IntermediateTemplate is what the certificate for a request says, its serial number and
// how many levels are below it aside.
func IntermediateTemplate(req IntermediateRequest) (*x509.Certificate, error) {
	id, err := KeyID(req.PublicKey)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		// The number sets authorities of the same name apart: some verifiers look for an
		// issuer by its subject and try the first that they find.
		Subject: pkix.Name{
			CommonName: req.Name, Organization: []string{organization}, SerialNumber: fmt.Sprintf("%x", id),
		},
		NotBefore: req.NotBefore, NotAfter: req.NotAfter,
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if req.TrustDomain != "" {
		confine(template, req.TrustDomain)
	}
	return template, nil
}

// confine bounds what an authority can sign, by what verifiers check: names of its
// trust domain, no addresses. Which path a SPIFFE id may have cannot be said so. Nor can
// a trust domain that is no host name: Envoy accepts nobody under such a bound.
func confine(template *x509.Certificate, td identity.TrustDomain) {
	if !identity.HostName(string(td)) {
		return
	}
	template.PermittedURIDomains = []string{string(td)}
	template.PermittedDNSDomains = []string{string(td)}
	template.PermittedDNSDomainsCritical = true
	template.ExcludedIPRanges = []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
}
