package release_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/semver"
	"pgregory.net/rapid"

	"github.com/openservicemesh/osm-operator/internal/release"
)

// made is a release that somebody has made.
func made(version string, storage int) release.Release {
	return release.Release{Version: version, Storage: storage, Images: release.Images{OSM: "osm:" + version, Envoy: "envoy:" + version}}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	overridden := release.NewCatalogue(map[string]release.Images{release.Current: {OSM: "registry.example/osm@sha256:1"}})
	many := release.NewCatalogue(nil, made("v0.2.0", 1), made("v0.2.3", 1), made("v0.3.0", 2), made("v0.4.0", 2), made("v1.0.0", 2), made("v1.1.0", 2))
	for name, tc := range map[string]struct {
		catalogue        release.Catalogue
		running, version string
		want             string
		wantErr          error
		wantText         string
	}{
		"an absent version is the newest where none runs":                   {catalogue: many, want: "v1.1.0"},
		"an absent version is the newest that there is a way to":            {catalogue: many, running: "v0.1.0", want: "v0.2.3"},
		"an absent version enters a major version by its first":             {catalogue: many, running: "v0.4.0", want: "v1.0.0"},
		"an absent version never goes back":                                 {catalogue: overridden, running: "v0.1.1", wantErr: release.ErrNoWay, wantText: "upgrade the operator"},
		"what runs need not be known to be followed":                        {catalogue: many, running: "v0.1.9", want: "v0.2.3"},
		"a version that is not in the catalogue is refused":                 {catalogue: overridden, version: "v9.9.9", wantErr: release.ErrUnknownVersion, wantText: release.Current},
		"the first may be any":                                              {catalogue: many, version: "v0.3.0", want: "v0.3.0"},
		"the one that runs may stay":                                        {catalogue: many, running: "v0.3.0", version: "v0.3.0", want: "v0.3.0"},
		"the next minor version is next":                                    {catalogue: many, running: "v0.2.0", version: "v0.3.0", want: "v0.3.0"},
		"a patch is as good as another":                                     {catalogue: many, running: "v0.2.0", version: "v0.2.3", want: "v0.2.3"},
		"a minor version may not be left out, and the one between is named": {catalogue: many, running: "v0.1.0", version: "v0.3.0", wantErr: release.ErrNoWay, wantText: "go to v0.2.3 first"},
		"where none is between, it says so":                                 {catalogue: release.NewCatalogue(nil, made("v0.4.0", 1)), running: "v0.1.0", version: "v0.4.0", wantErr: release.ErrNoWay, wantText: "installs none between"},
		"a major version is entered from the last minor before it":          {catalogue: many, running: "v0.4.0", version: "v1.0.0", want: "v1.0.0"},
		"and not from another":                                              {catalogue: many, running: "v0.3.0", version: "v1.0.0", wantErr: release.ErrNoWay, wantText: "go to v0.4.0 first"},
		"and not at a later minor":                                          {catalogue: many, running: "v0.4.0", version: "v1.1.0", wantErr: release.ErrNoWay, wantText: "go to v1.0.0 first"},
		"a minor version back is possible where the same is stored":         {catalogue: many, running: "v0.2.3", version: "v0.1.0", want: "v0.1.0"},
		"but not across a change of what is stored":                         {catalogue: many, running: "v0.3.0", version: "v0.2.3", wantErr: release.ErrNoWay, wantText: "cannot read what v0.3.0 has stored"},
		"nor two of them":                                                   {catalogue: release.NewCatalogue(nil, made("v0.2.0", 1), made("v0.3.0", 1)), running: "v0.3.0", version: "v0.1.0", wantErr: release.ErrNoWay, wantText: "go to v0.2.0 first"},
		"nor from what this operator does not know":                         {catalogue: many, running: "v1.2.0", version: "v1.1.0", wantErr: release.ErrNoWay, wantText: "use the operator that installed it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.catalogue.Resolve(tc.running, tc.version)
			if !errors.Is(err, tc.wantErr) {
				t.Fatalf("Resolve(%q, %q): error %v, want %v", tc.running, tc.version, err, tc.wantErr)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tc.wantText) {
					t.Errorf("Resolve(%q, %q): %v, want it to say %q", tc.running, tc.version, err, tc.wantText)
				}
				return
			}
			if got.Version != tc.want {
				t.Errorf("Resolve(%q, %q): %s, want %s", tc.running, tc.version, got.Version, tc.want)
			}
		})
	}
}

// TestEveryRefusalLeadsOn: whoever follows what refusals say gets from any release to any newer one.
func TestEveryRefusalLeadsOn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var more []release.Release
		for major, minors := range rapid.SliceOfN(rapid.IntRange(1, 4), 1, 3).Draw(t, "minors of each major") {
			for minor := range minors {
				version := "v" + string(rune('1'+major)) + "." + string(rune('0'+minor)) + ".0"
				more = append(more, made(version, 1))
			}
		}
		c := release.NewCatalogue(nil, more...)
		running, goal := rapid.SampledFrom(more).Draw(t, "running").Version, rapid.SampledFrom(more).Draw(t, "goal").Version
		if semver.Compare(goal, running) < 0 {
			return
		}
		for range more {
			if _, err := c.Resolve(running, goal); err == nil {
				return
			} else if _, first, ok := strings.Cut(err.Error(), "go to "); !ok {
				t.Fatalf("from %s to %s: %v: want it to lead on", running, goal, err)
			} else {
				running = strings.TrimSuffix(first, " first")
			}
		}
		t.Fatalf("the way to %s never ends", goal)
	})
}

func TestPackagersImages(t *testing.T) {
	t.Parallel()
	patched, err := release.ParseRelease("v0.1.1-acme.1=registry.example/osm@sha256:2,registry.example/envoy:1")
	if err != nil {
		t.Fatal(err)
	}
	c := release.NewCatalogue(map[string]release.Images{release.Current: {OSM: "registry.example/osm@sha256:1"}}, patched)
	if got, want := c.Versions(), []string{release.Current, "v0.1.1-acme.1"}; !slices.Equal(got, want) {
		t.Errorf("versions %v, want %v", got, want)
	}
	for version, want := range map[string]string{release.Current: "registry.example/osm@sha256:1", "v0.1.1-acme.1": "registry.example/osm@sha256:2"} {
		if r, err := c.Resolve("", version); err != nil || r.Images.OSM != want || r.Images.Envoy == "" {
			t.Errorf("%s: %+v, %v, want image %s", version, r, err, want)
		}
	}
	if r, err := c.Resolve("v0.1.1-acme.1", release.Current); err != nil {
		t.Errorf("back from a release that was added: %+v, %v", r, err)
	}
	for _, bad := range []string{"", "v1.0.0", "v1.0.0=a", "v1.0.0=a,", "v1.0.0=,b", "1.0.0=a,b", "next=a,b"} {
		if r, err := release.ParseRelease(bad); err == nil {
			t.Errorf("ParseRelease(%q) is %+v, want an error", bad, r)
		}
	}
}

func TestRevisionName(t *testing.T) {
	t.Parallel()
	if got, want := release.RevisionName("v1.2.3-RC.1"), "v1-2-3-rc-1"; got != want {
		t.Errorf("RevisionName: got %q, want %q", got, want)
	}
}
