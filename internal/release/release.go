// Package release knows the versions that this operator can install, their images
// and the way from one to another. A wanted version goes in, a Release or the
// reason why not comes out. It is pure: the images that a packager overrides come
// in as values.
package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Current is the version of the mesh that this build installs by default.
const Current = "v0.1.0"

// EnvoyVersion is the version of Envoy that this build is tested with.
const EnvoyVersion = "v1.40.0"

// ErrUnknownVersion says that this operator cannot install a version.
var ErrUnknownVersion = errors.New("unknown version")

// Images are the images of a release.
type Images struct {
	// OSM is the image of the control plane, the operator and the init container.
	OSM string
	// Envoy is the sidecar's image.
	Envoy string
}

// Release is a version with its images.
type Release struct {
	Version string
	Images  Images
}

// Catalogue lists the releases that this operator can install, oldest first.
type Catalogue struct {
	releases []Release
}

// NewCatalogue returns the catalogue of this build. Images in overrides that are
// not empty stand for those of the current release, as a packager's
// RELATED_IMAGE_OSM and RELATED_IMAGE_ENVOY do.
func NewCatalogue(overrides Images) Catalogue {
	images := Images{
		OSM:   "docker.io/openservicemesh/osm:" + Current,
		Envoy: "docker.io/envoyproxy/envoy:distroless-" + EnvoyVersion,
	}
	if overrides.OSM != "" {
		images.OSM = overrides.OSM
	}
	if overrides.Envoy != "" {
		images.Envoy = overrides.Envoy
	}
	return Catalogue{releases: []Release{{Version: Current, Images: images}}}
}

// Resolve returns the release of a version; the newest for an empty one. The error
// is ErrUnknownVersion with the versions that could be had.
func (c Catalogue) Resolve(version string) (Release, error) {
	if version == "" {
		return c.releases[len(c.releases)-1], nil
	}
	i := slices.IndexFunc(c.releases, func(r Release) bool { return r.Version == version })
	if i < 0 {
		return Release{}, fmt.Errorf("%w %s: this operator installs %s", ErrUnknownVersion, version, strings.Join(c.Versions(), ", "))
	}
	return c.releases[i], nil
}

// Versions lists the versions, oldest first.
func (c Catalogue) Versions() []string {
	out := make([]string, 0, len(c.releases))
	for _, r := range c.releases {
		out = append(out, r.Version)
	}
	return out
}

// RevisionName is the short name of a version's control plane, fit for names and
// labels: v0.1.0 is v0-1-0.
func RevisionName(version string) string {
	return strings.ToLower(strings.NewReplacer(".", "-", "+", "-", "_", "-").Replace(version))
}
