package policy

import (
	"maps"
	"slices"
	"strings"
	"time"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

const kindUpstreamTrafficSetting = "UpstreamTrafficSetting"

// setting is an UpstreamTrafficSetting that is read.
type setting struct {
	*mesh.Object[policyv1alpha1.UpstreamTrafficSettingSpec]
	remarks remarks
	// service is the Service that it is for, if its host is one's.
	service mesh.Key
	hosts   bool
	// bounds act at callers, rates at callees.
	bounds limits
	rates  rates
	// egress says that an Egress names it.
	egress bool
}

// limits are how callers call a Service.
type limits struct {
	ir.Upstream
	// unchecked says that endpoints are not asked whether they listen, whatever holds for all.
	unchecked bool
	// request bounds a request of HTTP, silence ends a connection of bytes.
	request, silence time.Duration
}

// compileSettings reads all UpstreamTrafficSettings, the older first: of several for one
// Service only the first is followed. Those that an Egress names have no Service.
func (c *Compiler) compileSettings() {
	c.settings, c.upstreams = map[mesh.Key]*setting{}, map[mesh.Key]*setting{}
	older := mesh.Older[policyv1alpha1.UpstreamTrafficSettingSpec, policyv1alpha1.UpstreamTrafficSettingSpec]
	for _, o := range slices.SortedFunc(maps.Values(c.model.Policies.UpstreamTrafficSettings), older) {
		s := &setting{Object: o}
		c.settings[o.Key] = s
		s.readHost()
		s.readConnectionSettings()
		s.readOutliers()
		s.readHealthCheck()
		s.readBalance()
		s.readRates()
		if !s.hosts {
			continue
		}
		if first := c.upstreams[s.service]; first != nil {
			s.remarks.partly(ReasonConflict, "", "UpstreamTrafficSetting %s is for %s already, and is older: it is followed there", first.Key, s.Spec.Host)
			first.remarks.partly(ReasonConflict, "", "UpstreamTrafficSetting %s is for %s too, and is younger: this one is followed there", o.Key, s.Spec.Host)
			continue
		}
		c.upstreams[s.service] = s
	}
}

// checkSettings looks at the settings that are followed, once it is known what may be
// sent to whom.
func (c *Compiler) checkSettings() {
	for _, s := range c.upstreams {
		c.checkSetting(s)
	}
}

// readHost finds the Service that a setting is for: one of its own namespace.
func (s *setting) readHost() {
	host := strings.TrimSuffix(strings.ToLower(s.Spec.Host), ".")
	service, ok := serviceOf(host)
	s.service, s.hosts = service, ok && service.Namespace == s.Namespace && validHost(host)
}

// checkSetting tells what of a setting has nothing to act on.
func (c *Compiler) checkSetting(s *setting) {
	service := c.model.Services[s.service]
	if service == nil || service.ExternalName != "" {
		s.remarks.missing(ReasonServiceNotFound, "", "the Service %s does not exist", s.service)
		return
	}
	s.checkHeadless(service)
	s.checkRoot(c.splits.byRoot[s.service])
	web := func(p mesh.ServicePort) bool { return protocol(p.Protocol) == ir.HTTP }
	if s.rates.ofRequests() && !slices.ContainsFunc(service.Ports, web) {
		s.remarks.partly(ReasonNoEffect, "", "no port of the Service is HTTP: limits of requests have no effect")
	}
	if !c.model.Settings.Permissive {
		c.checkPaths(s)
	}
}

// checkHeadless tells what has no effect where callers choose the pod.
func (s *setting) checkHeadless(service *mesh.Service) {
	if !service.Headless {
		return
	}
	if s.bounds.Balance != nil {
		s.remarks.partly(ReasonNoEffect, "", "the Service is headless: its callers choose the pod, and loadBalancing has no effect but for requests that a TrafficSplit sends there")
	}
	if s.bounds.silence > 0 {
		s.remarks.partly(ReasonNoEffect, "", "the Service is headless: tcp.idleTimeout has no effect")
	}
}

// checkRoot tells what has no effect where all that comes to a Service is for others.
func (s *setting) checkRoot(split *split) {
	own := func(b splitBackend) bool { return b.service == s.service }
	if split == nil || split.limited || slices.ContainsFunc(split.backends, own) {
		return
	}
	if s.bounds.Upstream != (ir.Upstream{}) || s.rates.connections != nil || s.rates.globalConnections != nil {
		s.remarks.partly(ReasonNoEffect, "", "TrafficSplit %s sends connections to other Services: their own settings bound them, and here only limits of requests and requestTimeout have an effect", split.name)
	}
}

// checkPaths tells of paths that no route has.
func (c *Compiler) checkPaths(s *setting) {
	accounts := c.behind(s.service)
	tooMany := func(a identity.ServiceAccount) bool { return c.classes.routes.Get(a).tooMany() }
	if len(s.rates.paths) > 0 && slices.ContainsFunc(accounts, tooMany) {
		s.remarks.partly(ReasonNoEffect, "", "httpRoutes: what may be sent to the Service's pods is too much for paths to be told apart: limits of paths have no effect")
	}
	for _, p := range s.rates.paths {
		if !c.routed(accounts, p.path) {
			s.remarks.partly(ReasonNoEffect, "", "httpRoutes: %.64q is the pathRegex of no match that may be sent to the Service's pods: it has no effect", p.text)
		}
	}
}

// behind are the ServiceAccounts of the pods that a Service leads to: its own, and where
// it is split those of its back ends.
func (c *Compiler) behind(service mesh.Key) []identity.ServiceAccount {
	accounts := slices.Clone(c.model.ServiceAccounts[service])
	if split := c.splits.byRoot[service]; split != nil {
		for _, b := range split.backends {
			accounts = append(accounts, c.model.ServiceAccounts[b.service]...)
		}
	}
	return accounts
}

// routed reports whether a request of a path may be sent to any of these.
func (c *Compiler) routed(accounts []identity.ServiceAccount, path ir.PathMatch) bool {
	for _, account := range accounts {
		for _, g := range c.targets.grants[account] {
			if slices.ContainsFunc(g.matches, func(m *routeMatch) bool { return m.match.Path == path }) {
				return true
			}
		}
	}
	return false
}

// settingReports tells of each UpstreamTrafficSetting, once it is known which of them
// Egresses name.
func (c *Compiler) settingReports() []ObjectReport {
	var out []ObjectReport
	for _, s := range c.settings {
		r := s.remarks
		if s.egress && !s.hosts && s.Spec.HealthCheck != nil {
			r.partly(ReasonNoEffect, "", "sidecars are asked whether applications listen, and there is none outside the mesh: healthCheck has no effect")
		}
		switch {
		case s.egress && (s.Spec.RateLimit != nil || len(s.Spec.HTTPRoutes) > 0) && !s.hosts:
			r.partly(ReasonNoEffect, "", "rates are limited at the callee, which is outside the mesh: rateLimit and httpRoutes have no effect")
		case !s.hosts && !s.egress:
			r.ignored(ReasonInvalidHost, "", "%.64q is not the full host name of a Service of namespace %s, such as name.%s.%s, and no Egress names this object", s.Spec.Host, s.Namespace, s.Namespace, clusterHosts)
		}
		out = append(out, r.report(kindUpstreamTrafficSetting, s.Key, s.UID, s.Generation))
	}
	return out
}
