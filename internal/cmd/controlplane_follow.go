package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/telemetry"
)

// follow brings the process in line with the MeshConfig. What proxies are told by it
// comes with the next Model.
func (p *controlPlane) follow(ctx context.Context, config *mesh.Object[configv1alpha2.MeshConfigSpec], problems []string) {
	p.meshConfig.Store(config)
	settings, _ := mesh.SettingsFrom(p.defaults(), config.Spec)
	problems = append(slices.Clone(problems), p.injection.Follow(config.Spec, settings.LeafLifetime)...)
	most := 0
	if s := config.Spec.Sidecar; s != nil && s.MaxDataPlaneConnections != nil {
		most = *s.MaxDataPlaneConnections
	}
	p.maxProxies.Store(int64(most))
	for name, on := range features(settings, config.Spec.FeatureFlags) {
		p.metrics.Feature(name, on)
	}
	level, debug := p.options.logLevel, false
	if o := config.Spec.Observability; o != nil {
		level = cmp.Or(o.OSMLogLevel, level)
		debug = o.EnableDebugServer != nil && *o.EnableDebugServer
	}
	if err := p.level.Set(level); err != nil {
		problems = append(problems, fmt.Sprintf("observability.osmLogLevel: %v", err))
	}
	if err := p.debug.Switch(ctx, debug); err != nil {
		p.log.Error(err, "Going without the debug server")
	}
	p.verdicts.MeshConfig(config, problems)
}

// features are the feature flags as they are in force.
func features(s mesh.Settings, f *configv1alpha2.FeatureFlags) map[string]bool {
	set := func(b *bool, otherwise bool) bool {
		if b == nil {
			return otherwise
		}
		return *b
	}
	if f == nil {
		f = &configv1alpha2.FeatureFlags{}
	}
	return map[string]bool{
		"enableEgressPolicy":            s.EgressPolicy,
		"enableIngressBackendPolicy":    s.IngressPolicy,
		"enableRetryPolicy":             s.RetryPolicy,
		"enableWASMStats":               set(f.EnableWASMStats, true),
		"enableEnvoyActiveHealthChecks": set(f.EnableEnvoyActiveHealthChecks, false),
	}
}

// debugPages are what the debug server shows. Nothing secret is in them: names and
// versions of resources, not contents.
func (p *controlPlane) debugPages() []telemetry.Page {
	model := func(show func(*mesh.Model) any) func(*http.Request) (any, error) {
		return func(*http.Request) (any, error) {
			m := p.engine.Model()
			if m == nil {
				return nil, errors.New("the cluster has not been read yet")
			}
			return show(m), nil
		}
	}
	return []telemetry.Page{
		{Path: "proxy", Show: func(*http.Request) (any, error) { return p.xds.Proxies(), nil }},
		{Path: "nacks", Show: func(*http.Request) (any, error) { return p.xds.NACKs(), nil }},
		{Path: "failing", Show: func(*http.Request) (any, error) { return p.engine.Failing(), nil }},
		{Path: "policies", Show: func(*http.Request) (any, error) { return p.verdicts.All(), nil }},
		{Path: "classes", Show: model(func(m *mesh.Model) any { return m.Classes })},
		{Path: "namespaces", Show: model(func(m *mesh.Model) any { return slices.Sorted(maps.Keys(m.Namespaces)) })},
		{Path: "settings", Show: model(func(m *mesh.Model) any { return m.Settings })},
		{Path: "feature-flags", Show: model(func(m *mesh.Model) any {
			var flags *configv1alpha2.FeatureFlags
			if c := p.meshConfig.Load(); c != nil {
				flags = c.Spec.FeatureFlags
			}
			return features(m.Settings, flags)
		})},
		{Path: "config", Show: func(*http.Request) (any, error) {
			if c := p.meshConfig.Load(); c != nil {
				return c.Spec, nil
			}
			return nil, errors.New("there is no MeshConfig yet")
		}},
		{Path: "xds", Show: p.showXDS},
	}
}

// showXDS shows the names and versions of what a class of proxies is sent: /debug/xds?class=ID.
func (p *controlPlane) showXDS(r *http.Request) (any, error) {
	class := r.URL.Query().Get("class")
	resources, ok := p.engine.Resources(class)
	if !ok {
		return nil, fmt.Errorf("there is no class %q: /debug/classes lists them, and /debug/proxy tells the class of a pod", class)
	}
	return resources, nil
}
