package mesh

import (
	"fmt"
	"slices"
	"strings"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// suites are the cipher suites that Envoy knows one by one, as OpenSSL names them.
// One that it does not know would have every sidecar refuse all that speaks TLS.
func suites() []string {
	return []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256",
		"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
		"ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-SHA256",
		"AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA",
		"ECDHE-PSK-AES128-CBC-SHA", "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-CBC-SHA",
	}
}

// curves are the key exchanges that Envoy knows.
func curves() []string {
	return []string{"X25519", "P-256", "P-384", "P-521", "X25519MLKEM768", "MLKEM1024", "prime256v1", "secp384r1", "secp521r1"}
}

// CheckTLS says what of the cipher suites and curves of a MeshConfig is none, a sentence each.
func CheckTLS(s *configv1alpha2.SidecarSpec) (problems []string) {
	if s == nil {
		return nil
	}
	_, wrongSuites := usableSuites(s.CipherSuites)
	_, wrongCurves := usableCurves(s.ECDHCurves)
	return append(wrongSuites, wrongCurves...)
}

// usableSuites leaves out what is no cipher suite. A group of suites that are liked the
// same, as in [A|B], stands or falls as one. Certificates of the mesh are of ECDSA, where
// those of Open Service Mesh were of RSA: a suite for RSA brings that for ECDSA along.
func usableSuites(all []string) (usable, problems []string) {
	for i, one := range all {
		members := strings.Split(strings.TrimSuffix(strings.TrimPrefix(one, "["), "]"), "|")
		grouped := one == "["+strings.Join(members, "|")+"]"
		unknown := slices.ContainsFunc(members, func(m string) bool { return !slices.Contains(suites(), m) })
		if unknown || len(members) > 1 && !grouped {
			problems = append(problems, fmt.Sprintf(
				"sidecar.cipherSuites[%d]: %q is no cipher suite that Envoy knows: give names such as ECDHE-ECDSA-AES128-GCM-SHA256; those of TLS 1.3 cannot be chosen", i, one))
			continue
		}
		if twin := strings.ReplaceAll(one, "ECDHE-RSA-", "ECDHE-ECDSA-"); twin != one && !slices.Contains(all, twin) {
			usable = append(usable, twin)
		}
		usable = append(usable, one)
	}
	return usable, problems
}

// usableCurves leaves out what is no curve, and what is there twice, which Envoy takes for
// a mistake.
func usableCurves(all []string) (usable, problems []string) {
	for i, one := range all {
		switch {
		case !slices.Contains(curves(), one):
			problems = append(problems, fmt.Sprintf("sidecar.ecdhCurves[%d]: %q is no key exchange that Envoy knows: give some of %s", i, one, strings.Join(curves(), ", ")))
		case !slices.ContainsFunc(usable, func(known string) bool { return curveOf(known) == curveOf(one) }):
			usable = append(usable, one)
		}
	}
	return usable, problems
}

// curveOf returns the one name of a curve that has several.
func curveOf(name string) string {
	switch name {
	case "prime256v1":
		return "P-256"
	case "secp384r1":
		return "P-384"
	case "secp521r1":
		return "P-521"
	default:
		return name
	}
}
