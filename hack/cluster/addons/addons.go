// Package addons is what every cluster holds from the start: CoreDNS, and the
// permissions that the API server needs at the kubelet. A spec comes in; a
// manifest goes out.
package addons

import (
	"bytes"
	_ "embed"
	"text/template"

	"github.com/openservicemesh/osm-operator/hack/cluster/image"
	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

//go:embed manifest.yaml.tmpl
var manifest string

// Manifest is the YAML to apply.
func Manifest(s spec.Spec) ([]byte, error) {
	parsed, err := template.New("manifest").Parse(manifest)
	if err != nil {
		return nil, err
	}
	policy := "SingleStack"
	if s.IPv6 {
		policy = "PreferDualStack"
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]string{
		"DNS": s.V4().DNS.String(), "FamilyPolicy": policy, "CoreDNSImage": spec.CoreDNSImage,
	})
	return out.Bytes(), err
}

// Images are the images that the cluster itself needs, from the folders of the
// built parts.
func Images(parts map[string]string, architecture string) []image.Image {
	return []image.Image{
		{
			Name:         spec.PauseImage,
			Architecture: architecture,
			Files:        []image.File{{Path: "/pause", From: parts["pause"] + "/pause", Mode: 0o755}},
			Entrypoint:   []string{"/pause"},
			User:         "65535:65535",
		},
		{
			Name:         spec.CoreDNSImage,
			Architecture: architecture,
			Files:        []image.File{{Path: "/coredns", From: parts["coredns"] + "/coredns", Mode: 0o755}},
			Entrypoint:   []string{"/coredns"},
			User:         "65532:65532",
		},
	}
}
