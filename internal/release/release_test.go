package release_test

import (
	"errors"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/release"
)

func TestResolve(t *testing.T) {
	overridden := release.NewCatalogue(release.Images{OSM: "registry.example/osm@sha256:1"})
	cases := map[string]struct {
		catalogue release.Catalogue
		version   string
		wantOSM   string
		wantErr   error
	}{
		"An absent version is the newest": {
			catalogue: release.NewCatalogue(release.Images{}), wantOSM: "docker.io/openservicemesh/osm:" + release.Current,
		},
		"A packager's image stands for the release's": {
			catalogue: overridden, version: release.Current, wantOSM: "registry.example/osm@sha256:1",
		},
		"A version that is not in the catalogue is refused": {
			catalogue: overridden, version: "v9.9.9", wantErr: release.ErrUnknownVersion,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := tc.catalogue.Resolve(tc.version)
			if !errors.Is(err, tc.wantErr) {
				t.Fatalf("Resolve(%q): error %v, want %v", tc.version, err, tc.wantErr)
			}
			if got.Images.OSM != tc.wantOSM {
				t.Errorf("Resolve(%q): image %q, want %q", tc.version, got.Images.OSM, tc.wantOSM)
			}
		})
	}
}

func TestRevisionName(t *testing.T) {
	if got, want := release.RevisionName("v1.2.3-RC.1"), "v1-2-3-rc-1"; got != want {
		t.Errorf("RevisionName: got %q, want %q", got, want)
	}
}
