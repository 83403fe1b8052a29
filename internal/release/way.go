package release

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// ErrNoWay says that a version can be installed, but not over the one that runs.
var ErrNoWay = errors.New("no way from the version that runs")

// way says why there is no way from what runs to a release; nil if there is one. Control
// planes and sidecars of neighbouring minor versions work together, as those of Kubernetes
// do (kubernetes.io/releases/version-skew-policy), so that no minor version may be left out,
// neither up nor down, and a major one is entered from the last minor before it.
func (c Catalogue) way(running string, to Release) error {
	if running == "" || running == to.Version {
		return nil
	}
	if !semver.IsValid(running) {
		return fmt.Errorf("%w: %q, which runs, is no semantic version", ErrNoWay, running)
	}
	back := semver.Compare(to.Version, running) < 0
	if back {
		if err := c.storedFor(running, to); err != nil {
			return err
		}
	}
	older, newer := running, to.Version
	if back {
		older, newer = newer, older
	}
	if c.neighbours(older, newer) {
		return nil
	}
	return fmt.Errorf("%w: from %s to %s leaves out minor versions: %s", ErrNoWay, running, to.Version, c.stepstone(running, to.Version, back))
}

// storedFor refuses to go back to what cannot read what is stored by now.
func (c Catalogue) storedFor(running string, to Release) error {
	from, ok := c.find(running)
	if !ok {
		return fmt.Errorf("%w: this operator does not know %s, which runs, and so not whether %s can read what it has stored: use the operator that installed it", ErrNoWay, running, to.Version)
	}
	if from.Storage > to.Storage {
		return fmt.Errorf("%w: %s cannot read what %s has stored: there is no way back, but by a backup", ErrNoWay, to.Version, running)
	}
	return nil
}

// neighbours reports whether two versions are of the same minor version or of two that follow
// each other.
func (c Catalogue) neighbours(older, newer string) bool {
	if semver.Major(older) == semver.Major(newer) {
		return minor(newer)-minor(older) <= 1
	}
	return major(newer)-major(older) == 1 && minor(newer) == 0 && minor(older) == c.lastMinor(older)
}

// lastMinor is the last minor version that the catalogue knows with the major one of a version.
func (c Catalogue) lastMinor(version string) int {
	last := minor(version)
	for _, r := range c.releases {
		if semver.Major(r.Version) == semver.Major(version) {
			last = max(last, minor(r.Version))
		}
	}
	return last
}

// stepstone says which version to go to first: the one nearest to the goal that there is a way to.
func (c Catalogue) stepstone(running, to string, back bool) string {
	best := ""
	for _, r := range c.releases {
		low, high := running, to
		if back {
			low, high = to, running
		}
		between := semver.Compare(r.Version, low) > 0 && semver.Compare(r.Version, high) < 0
		if !between || c.way(running, r) != nil {
			continue
		}
		if best == "" || semver.Compare(r.Version, best) > 0 != back {
			best = r.Version
		}
	}
	if best == "" {
		return "this operator installs none between them; use an operator that does"
	}
	return "go to " + best + " first"
}

func major(version string) int {
	return number(strings.TrimPrefix(semver.Major(version), "v"))
}

func minor(version string) int {
	_, text, _ := strings.Cut(semver.MajorMinor(version), ".")
	return number(text)
}

// number reads what semver has found to be digits; what no int holds is as far away as can be.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return int(^uint(0) >> 1)
	}
	return n
}
