package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/openservicemesh/osm-operator/internal/ir"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Reasons of the conditions of policy objects, set by the control plane.
const (
	// ReasonAccepted says that the object is followed.
	ReasonAccepted = "Accepted"
	// ReasonInvalid says that the object means nothing and is ignored.
	ReasonInvalid = "Invalid"
	// ReasonUnsupportedKind says that the object is ignored since it names a kind that
	// the mesh does not know there, or cannot follow.
	ReasonUnsupportedKind = "UnsupportedKind"
	// ReasonConflict says that an older object speaks of the same thing and wins.
	ReasonConflict = "Conflict"
	// ReasonNoMatches says that an HTTPRouteGroup has no match that can be used.
	ReasonNoMatches = "NoMatches"
	// ReasonInvalidMatch says that a match cannot be read and is left out.
	ReasonInvalidMatch = "InvalidMatch"
	// ReasonInvalidPort says that a port is none and is left out.
	ReasonInvalidPort = "InvalidPort"
	// ReasonInvalidSource says that a source is nobody and is left out.
	ReasonInvalidSource = "InvalidSource"
	// ReasonInvalidWeight says that a weight is no share, and counts as 0.
	ReasonInvalidWeight = "InvalidWeight"
	// ReasonNoTraffic says that nothing is left to send traffic to.
	ReasonNoTraffic = "NoTraffic"
	// ReasonNoEffect says that a part of the object has no effect here.
	ReasonNoEffect = "NoEffect"
	// ReasonProtocolConflict says that another Service says otherwise what is spoken on
	// a port of the same pods.
	ReasonProtocolConflict = "ProtocolConflict"
	// ReasonReservedPort says that a port of the pods belongs to the sidecar.
	ReasonReservedPort = "ReservedPort"

	// ReasonAnySource says that gateways may have any address.
	ReasonAnySource = "AnySource"
	// ReasonInvalidHost says that a host is none and is left out.
	ReasonInvalidHost = "InvalidHost"
	// ReasonInvalidDuration says that a time is none and is left out.
	ReasonInvalidDuration = "InvalidDuration"
	// ReasonInvalidLimit says that a bound is none and is left out.
	ReasonInvalidLimit = "InvalidLimit"
	// ReasonInvalidRateLimit says that a limit of a rate, or a part of it, cannot be read
	// and is left out.
	ReasonInvalidRateLimit = "InvalidRateLimit"
	// ReasonInvalidRange says that a range of addresses is none and is left out.
	ReasonInvalidRange = "InvalidRange"

	// ReasonResolved says that all that is named was found.
	ReasonResolved = "ResolvedRefs"
	// ReasonRouteNotFound says that an HTTPRouteGroup, a match of one, or a TCPRoute
	// was not found.
	ReasonRouteNotFound = "RouteNotFound"
	// ReasonSettingNotFound says that an UpstreamTrafficSetting was not found.
	ReasonSettingNotFound = "SettingNotFound"
	// ReasonEndpointsNotFound says that a Service has no endpoint that is ready.
	ReasonEndpointsNotFound = "EndpointsNotFound"
	// ReasonServiceNotFound says that a Service was not found.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonBackendNotFound says that a back end was not found, or a port of one.
	ReasonBackendNotFound = "BackendNotFound"
	// ReasonNoPods says that no pod of the mesh runs as a ServiceAccount.
	ReasonNoPods = "NoPods"
)

// Codes of Open Service Mesh for what is wrong with policies.
const (
	codeEgressConflict        = "E2000"
	codeEgressRange           = "E2002"
	codeEgressMatch           = "E2003"
	codeEgressGroupNotFound   = "E2004"
	codeGroupNotFound         = "E2005"
	codeGroupEmpty            = "E2006"
	codeSecondSplit           = "E2007"
	codeRouteNotAdded         = "E2008"
	codeDestinationNotAccount = "E2010"
	codeSourceNotAccount      = "E2011"
)

// ObjectReport is what is to be said of an object. Besides policies, Services are
// spoken of whose ports cannot be served as they say; those have no UID here.
type ObjectReport struct {
	Kind       string
	Key        mesh.Key
	UID        string
	Generation int64
	Accepted   Verdict
	Resolved   Verdict
}

// Verdict is a condition of an object.
type Verdict struct {
	OK              bool
	Reason, Message string
	// Code is Open Service Mesh's code of the fault; empty if it had none.
	Code string
}

// remark is one thing to be said of an object.
type remark struct{ reason, code, message string }

// remarks gathers what is to be said of one object while it is compiled.
type remarks struct{ fatal, partial, absent []remark }

// ignored says why the object is not followed at all.
func (r *remarks) ignored(reason, code, format string, args ...any) {
	r.fatal = append(r.fatal, remark{reason, code, fmt.Sprintf(format, args...)})
}

// partly says what of the object is not followed; the rest is.
func (r *remarks) partly(reason, code, format string, args ...any) {
	r.partial = append(r.partial, remark{reason, code, fmt.Sprintf(format, args...)})
}

// missing says what was not found.
func (r *remarks) missing(reason, code, format string, args ...any) {
	r.absent = append(r.absent, remark{reason, code, fmt.Sprintf(format, args...)})
}

func (r *remarks) report(kind string, key mesh.Key, uid string, generation int64) ObjectReport {
	out := ObjectReport{
		Kind: kind, Key: key, UID: uid, Generation: generation,
		Accepted: Verdict{OK: true, Reason: ReasonAccepted, Message: "the object is followed"},
		Resolved: Verdict{OK: true, Reason: ReasonResolved, Message: "all that it names was found"},
	}
	// That another object is followed in its place is the first thing to know.
	slices.SortStableFunc(r.partial, func(a, b remark) int {
		return cmp.Compare(conflicts(b), conflicts(a))
	})
	if all := slices.Concat(r.fatal, r.partial); len(all) > 0 {
		out.Accepted = verdict(all)
		out.Accepted.OK = len(r.fatal) == 0
	}
	if len(r.absent) > 0 {
		out.Resolved = verdict(r.absent)
	}
	return out
}

func conflicts(r remark) int {
	if r.reason == ReasonConflict {
		return 1
	}
	return 0
}

// verdict says the first few of what there is to say.
func verdict(all []remark) Verdict {
	const most = 8
	var messages []string
	for _, m := range all {
		text := m.message
		if len(text) > 512 {
			text = strings.ToValidUTF8(text[:512], "") + "..."
		}
		if !slices.Contains(messages, text) {
			messages = append(messages, text)
		}
		if len(messages) > most {
			messages[most] = "and more"
			break
		}
	}
	return Verdict{Reason: all[0].reason, Code: all[0].code, Message: strings.Join(messages, "; ")}
}

// portConflicts reports Services that say something else of a port than is served.
func (c *Compiler) portConflicts() []ObjectReport {
	found := map[mesh.Key]*remarks{}
	served := map[uint16]ir.InboundPort{}
	for _, class := range c.model.Classes {
		clear(served)
		eachPort(class, c.serviceOf, func(s *mesh.Service, p mesh.ServicePort, target uint16) {
			first, taken := served[target]
			if !taken {
				served[target] = ir.InboundPort{Protocol: protocol(p.Protocol), Service: ir.ServicePort{Namespace: s.Namespace, Name: s.Name, Port: p.Number}}
			}
			conflict := taken && first.Protocol != protocol(p.Protocol)
			if !conflict && !reserved(target) {
				return
			}
			if found[s.Key] == nil {
				found[s.Key] = &remarks{}
			}
			if reserved(target) {
				found[s.Key].partly(ReasonReservedPort, "", "port %d leads to port %d of pods, which is the sidecar's: it is not served", p.Number, target)
				return
			}
			found[s.Key].partly(ReasonProtocolConflict, "", "port %d leads to port %d of pods, which is %s by Service %s/%s: that is what is served", p.Number, target, first.Protocol, first.Service.Namespace, first.Service.Name)
		})
	}
	var out []ObjectReport
	for key, r := range found {
		slices.SortFunc(r.partial, func(a, b remark) int {
			return cmp.Or(strings.Compare(a.reason, b.reason), strings.Compare(a.message, b.message))
		})
		out = append(out, r.report("Service", key, "", 0))
	}
	return out
}
