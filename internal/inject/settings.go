package inject

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
)

// defaultLogLevel is the sidecar's where nothing is said.
const defaultLogLevel = "error"

// MeshWide is what a MeshConfig says of new sidecars.
type MeshWide struct {
	sidecar      configv1alpha2.SidecarSpec
	exclusions   Exclusions
	leafLifetime time.Duration
}

// MeshWideOf returns what a MeshConfig says of new sidecars, and what of it cannot be
// followed, a sentence each. leafLifetime is what it says of their certificates.
func MeshWideOf(spec configv1alpha2.MeshConfigSpec, leafLifetime time.Duration) (w MeshWide, problems []string) {
	w.leafLifetime = leafLifetime
	if spec.Sidecar != nil {
		w.sidecar = *spec.Sidecar
	}
	w.exclusions, problems = ExclusionsOf(spec.Traffic).Usable()
	return w, problems
}

// With returns the settings of a control plane with those of the MeshConfig.
func (c Config) With(w MeshWide) Config {
	s := w.sidecar
	c.LeafLifetime, c.Exclusions, c.LogLevel = w.leafLifetime, w.exclusions, s.LogLevel
	c.EnvoyImage = cmp.Or(s.EnvoyImage, c.EnvoyImage)
	c.OSMImage = cmp.Or(s.InitContainerImage, c.OSMImage)
	c.PrivilegedInit = s.EnablePrivilegedInitContainer != nil && *s.EnablePrivilegedInitContainer
	c.PodIPMode = s.LocalProxyMode == "PodIP"
	if s.Resources != nil {
		c.Resources = *s.Resources
	}
	return c
}

// settings are those that a pod keeps until it is made anew. Whatever is added here has
// all pods told to be restarted: it has to be absent where it is not set.
type settings struct {
	OSMImage       string                      `json:"osmImage"`
	EnvoyImage     string                      `json:"envoyImage"`
	LogLevel       string                      `json:"logLevel"`
	Resources      corev1.ResourceRequirements `json:"resources"`
	PrivilegedInit bool                        `json:"privilegedInit,omitempty"`
	PodIPMode      bool                        `json:"podIPMode,omitempty"`
	LeafLifetime   time.Duration               `json:"leafLifetime"`
	InboundPorts   []int                       `json:"inboundPorts,omitempty"`
	OutboundPorts  []int                       `json:"outboundPorts,omitempty"`
	OutboundRanges []string                    `json:"outboundRanges,omitempty"`
	OutboundOnly   []string                    `json:"outboundOnly,omitempty"`
	Interfaces     []string                    `json:"interfaces,omitempty"`
}

// Settings returns a hash of the settings that a pod keeps until it is made anew, as far as
// they are the same for all pods of a control plane. Injection writes it into the pod: a
// pod with another than this one would come up different now.
func (c Config) Settings() (string, error) {
	raw, err := json.Marshal(settings{
		OSMImage: c.OSMImage, EnvoyImage: c.EnvoyImage, LogLevel: cmp.Or(c.LogLevel, defaultLogLevel), Resources: c.Resources,
		PrivilegedInit: c.PrivilegedInit, PodIPMode: c.PodIPMode, LeafLifetime: c.LeafLifetime,
		InboundPorts: set(c.Exclusions.InboundPorts), OutboundPorts: set(c.Exclusions.OutboundPorts),
		OutboundRanges: set(c.Exclusions.OutboundRanges), OutboundOnly: set(c.Exclusions.OutboundOnly), Interfaces: set(c.Exclusions.Interfaces),
	})
	if err != nil {
		return "", fmt.Errorf("hashing the settings of sidecars: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8]), nil
}

// set returns what is in a list, whatever its order.
func set[T cmp.Ordered](list []T) []T {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
