package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/lineage"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// ObjectName names a policy object.
type ObjectName struct {
	Kind string
	Key  mesh.Key
}

// State names the policies that were read, and which state of each: the same for all
// replicas that have read the same.
func State(reports []ObjectReport) string {
	sum := sha256.New()
	for _, r := range reports {
		if r.UID != "" { // a Service is no policy
			_, _ = fmt.Fprintf(sum, "%s %s %s %d\n", r.Kind, r.Key, r.UID, r.Generation)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// Dependents returns, for each policy that says something of the configuration of some
// proxies, the IDs of the classes of these, in no order: those that have read what it
// says. All classes must have been asked for before. The slices must not be changed.
func (c *Compiler) Dependents() map[ObjectName][]string {
	d := &dependents{Compiler: c, reach: c.classes.proxies.Reach(), places: map[ObjectName][]lineage.Place{}}
	d.ofTargets()
	d.ofSplits()
	d.ofRetries()
	d.ofSettings()
	d.ofEgresses()
	d.ofIngress()
	out := make(map[ObjectName][]string, len(d.places))
	for name, places := range d.places {
		if classes := d.reach.From(places...); len(classes) > 0 {
			out[name] = classes
		}
	}
	return out
}

// dependents gathers where policies say something.
type dependents struct {
	*Compiler
	reach  *lineage.Reach[string]
	places map[ObjectName][]lineage.Place
}

func (d *dependents) add(kind string, key mesh.Key, places ...lineage.Place) {
	name := ObjectName{kind, key}
	d.places[name] = append(d.places[name], places...)
}

// ofTargets also tells of the routes that TrafficTargets name.
func (d *dependents) ofTargets() {
	to := d.classes
	byTarget := map[mesh.Key][]lineage.Place{}
	for key := range d.model.Policies.TrafficTargets {
		t := to.targets.Get(key)
		if t.grant == nil {
			continue
		}
		places := []lineage.Place{to.grants.Place(t.destination)}
		for _, source := range t.grant.sources {
			places = append(places, to.reachable.Place(source))
		}
		byTarget[key] = places
		d.add("TrafficTarget", key, places...)
	}
	named := to.targets.Reach()
	for key := range d.groups {
		for _, target := range named.From(to.groups.Place(key)) {
			d.add(kindHTTPRouteGroup, key, byTarget[target]...)
		}
	}
	for key := range d.tcpRoutes {
		for _, target := range named.From(to.tcpRoutes.Place(key)) {
			d.add(kindTCPRoute, key, byTarget[target]...)
		}
	}
}

func (d *dependents) ofSplits() {
	for key, o := range d.model.Policies.TrafficSplits {
		root := rootOf(o)
		s := d.splits.byRoot[root]
		if s == nil || s.name != key.String() {
			continue
		}
		places := []lineage.Place{d.classes.splits.Place(root)}
		for _, b := range s.backends {
			places = append(places, d.classes.rootsOf.Place(b.service))
		}
		d.add("TrafficSplit", key, places...)
		for _, m := range o.Spec.Matches {
			d.add(kindHTTPRouteGroup, mesh.Key{Namespace: key.Namespace, Name: m.Name}, places...)
		}
	}
}

func (d *dependents) ofRetries() {
	for source, services := range d.retries {
		for _, r := range services {
			d.add("Retry", r.object, d.classes.retries.Place(source), d.classes.retryOf.Place(r.object))
		}
	}
}

func (d *dependents) ofSettings() {
	for service, s := range d.upstreams {
		d.add(kindUpstreamTrafficSetting, s.Key, d.classes.upstreams.Place(service))
	}
}

// ofEgresses also tells of what Egresses name.
func (d *dependents) ofEgresses() {
	for key, o := range d.model.Policies.Egresses {
		var places []lineage.Place
		for _, s := range o.Spec.Sources {
			places = append(places, d.classes.egress.Place(identity.ServiceAccount{Namespace: s.Namespace, Name: s.Name}))
		}
		d.add(kindEgress, key, places...)
		for _, m := range o.Spec.Matches {
			d.add(m.Kind, mesh.Key{Namespace: key.Namespace, Name: m.Name}, places...)
		}
	}
}

func (d *dependents) ofIngress() {
	for at, b := range d.ingress {
		place := d.classes.ingress.Place(at)
		d.add("IngressBackend", b.from.Key, place)
		for _, m := range b.from.Spec.Matches {
			d.add(m.Kind, mesh.Key{Namespace: b.from.Namespace, Name: m.Name}, place)
		}
	}
}
