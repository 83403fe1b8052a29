package ca

import (
	"crypto"
	"time"

	"github.com/openservicemesh/osm-operator/internal/identity"
)

const (
	// maxDNSNames is how many DNS names a certificate has at the most.
	maxDNSNames = 16
	// maxLifetime is the longest life of a leaf that is asked for.
	maxLifetime = 366 * 24 * time.Hour
)

// Usage says what a certificate is for.
type Usage uint8

const (
	// Client is for whoever connects.
	Client Usage = 1 << iota
	// Server is for whoever is connected to.
	Server
	// Both is for workloads, which do both.
	Both = Client | Server
)

// Request asks for the certificate of a subject of the mesh. What it says is vouched
// for by the caller: that the subject is who it is, and that it holds the key.
type Request struct {
	// PublicKey is the key that is certified.
	PublicKey crypto.PublicKey
	// Key is the private half, where the asker itself holds it: some authorities want a
	// request that is signed with it. The key of a workload is in its pod.
	Key PrivateKey
	// URI is the SPIFFE id of the subject, as package identity writes it.
	URI string
	// DNSNames are further names of the subject; no wildcards.
	DNSNames []string
	// PodUID is the pod that a workload runs in; empty for other subjects.
	PodUID string
	// Usage is what the certificate is for.
	Usage Usage
	// NotBefore and NotAfter are wanted, in whole seconds. An authority may move the
	// beginning by minutes, and may end the certificate sooner; it must where the issuer
	// ends sooner.
	NotBefore, NotAfter time.Time
	// MaxLifetime is the longest time from beginning to end that is taken, the
	// backdating included; 0 sets no other bound than NotAfter.
	MaxLifetime time.Duration
	// MinLifetime is the shortest that is of use: an authority that can give less only
	// returns an *UnavailableError.
	MinLifetime time.Duration
}

// End returns when the certificate is to end: NotAfter, or sooner where MaxLifetime
// says so.
func (r Request) End() time.Time {
	if longest := r.NotBefore.Add(r.MaxLifetime); r.MaxLifetime > 0 && longest.Before(r.NotAfter) {
		return longest
	}
	return r.NotAfter
}

// Validate returns an *InvalidError where a request breaks a rule. Authorities call it
// first, so that no caller can forget to.
func (r Request) Validate() error {
	if err := checkKeys(r.PublicKey, r.Key); err != nil {
		return err
	}
	if err := r.validateNames(); err != nil {
		return err
	}
	if r.Usage == 0 || r.Usage&^Both != 0 {
		return invalid(FieldUsage, "a certificate is for clients, servers or both")
	}
	return r.validateLifetime()
}

func (r Request) validateNames() error {
	subject, err := identity.Parse(r.URI)
	if err != nil {
		return invalid(FieldNames, "%v", err)
	}
	if len(r.DNSNames) > maxDNSNames {
		return invalid(FieldNames, "%d DNS names are more than the %d that are taken", len(r.DNSNames), maxDNSNames)
	}
	seen := map[string]bool{}
	for _, name := range r.DNSNames {
		if !identity.HostName(name) || seen[name] {
			return invalid(FieldNames, "%q is no host name in lower case, or is there twice", name)
		}
		seen[name] = true
	}
	if r.PodUID == "" {
		return nil
	}
	if subject.Kind != identity.KindWorkload {
		return invalid(FieldPodUID, "%s runs in no pod that others know", r.URI)
	}
	if _, err := identity.PodUIDExtension(r.PodUID); err != nil {
		return invalid(FieldPodUID, "%v", err)
	}
	return nil
}

func (r Request) validateLifetime() error {
	lifetime := r.End().Sub(r.NotBefore)
	switch {
	case r.NotBefore.IsZero() || lifetime <= 0:
		return invalid(FieldLifetime, "it ends before it begins")
	case lifetime > maxLifetime:
		return invalid(FieldLifetime, "%s is longer than the %s that are taken", lifetime, maxLifetime)
	case r.NotBefore.Nanosecond() != 0 || r.NotAfter.Nanosecond() != 0 || r.MaxLifetime%time.Second != 0:
		return invalid(FieldLifetime, "certificates begin and end with a second")
	case r.MaxLifetime < 0 || r.MinLifetime < 0 || lifetime < r.MinLifetime:
		return invalid(FieldLifetime, "%s is less than the %s that are of use", lifetime, r.MinLifetime)
	}
	return nil
}
