// Package release knows the versions that this operator can install, their images
// and the way from one to another. What runs and what is wanted go in, a Release or
// the reason why not comes out. It is pure: images and releases that a packager adds
// come in as values.
package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
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
	// Version is a semantic version with a leading v (semver.org).
	Version string
	Images  Images
	// Storage counts the changes of what is kept in the cluster that versions before
	// cannot read: there is no way back to a smaller one.
	Storage int
}

// Catalogue lists the releases that this operator can install, oldest first.
type Catalogue struct {
	releases []Release
}

// embedded are the releases that this build installs, without their order.
func embedded() []Release {
	return []Release{
		{Version: Current, Storage: 1, Images: Images{
			OSM:   "docker.io/openservicemesh/osm:" + Current,
			Envoy: "docker.io/envoyproxy/envoy:distroless-" + EnvoyVersion,
		}},
	}
}

// NewCatalogue returns the catalogue of this build. Images in overrides that are not empty
// stand for those of the release with that version, as a packager's RELATED_IMAGE_OSM and
// RELATED_IMAGE_ENVOY do for the current one. Releases in more come besides, as ParseRelease
// reads them, and replace those of the same version.
func NewCatalogue(overrides map[string]Images, more ...Release) Catalogue {
	var c Catalogue
	for _, r := range append(embedded(), more...) {
		c.releases = slices.DeleteFunc(c.releases, func(have Release) bool { return have.Version == r.Version })
		if o := overrides[r.Version]; o.OSM != "" {
			r.Images.OSM = o.OSM
		}
		if o := overrides[r.Version]; o.Envoy != "" {
			r.Images.Envoy = o.Envoy
		}
		c.releases = append(c.releases, r)
	}
	slices.SortFunc(c.releases, func(a, b Release) int { return semver.Compare(a.Version, b.Version) })
	return c
}

// ParseRelease reads VERSION=OSM-IMAGE,ENVOY-IMAGE, a release that is not in the build: one
// that somebody has made. It stores what the build's own releases do.
func ParseRelease(text string) (Release, error) {
	version, images, ok := strings.Cut(text, "=")
	osm, envoy, both := strings.Cut(images, ",")
	switch {
	case !ok || !both || osm == "" || envoy == "":
		return Release{}, fmt.Errorf("release %q: want VERSION=OSM-IMAGE,ENVOY-IMAGE", text)
	case !semver.IsValid(version):
		return Release{}, fmt.Errorf("release %q: %q is no semantic version with a leading v", text, version)
	}
	var storage int
	for _, r := range embedded() {
		storage = max(storage, r.Storage)
	}
	return Release{Version: version, Storage: storage, Images: Images{OSM: osm, Envoy: envoy}}, nil
}

// Resolve returns the release of a version for a mesh that runs another one, or none where
// running is empty. For an empty version it is the newest that there is a way to. The error wraps
// ErrUnknownVersion, with the versions that could be had, or ErrNoWay, with what to do.
func (c Catalogue) Resolve(running, version string) (Release, error) {
	if version == "" {
		return c.newest(running)
	}
	to, ok := c.find(version)
	if !ok {
		return Release{}, fmt.Errorf("%w %s: this operator installs %s", ErrUnknownVersion, version, strings.Join(c.Versions(), ", "))
	}
	return to, c.way(running, to)
}

// newest returns the newest release that there is a way to: what runs, if nothing newer.
func (c Catalogue) newest(running string) (Release, error) {
	var err error
	for _, r := range slices.Backward(c.releases) {
		if running != "" && semver.Compare(r.Version, running) < 0 {
			break // nobody has asked to go back
		}
		if err = c.way(running, r); err == nil {
			return r, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: %s runs, which is newer than all that this operator installs (%s): upgrade the operator, or set spec.version to go back", ErrNoWay, running, strings.Join(c.Versions(), ", "))
	}
	return Release{}, err
}

func (c Catalogue) find(version string) (Release, bool) {
	i := slices.IndexFunc(c.releases, func(r Release) bool { return r.Version == version })
	if i < 0 {
		return Release{}, false
	}
	return c.releases[i], true
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
