package reading

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
)

// Mesh is all that there is. All namespaces that are named belong to it.
type Mesh struct {
	Permissive, Egress bool

	Services []Service
	Pods     []Pod

	TrafficTargets  []accessv1alpha3.TrafficTarget
	HTTPRouteGroups []specsv1alpha4.HTTPRouteGroup
	TCPRoutes       []specsv1alpha4.TCPRoute
	TrafficSplits   []splitv1alpha4.TrafficSplit
	Egresses        []policyv1alpha1.Egress
	IngressBackends []policyv1alpha1.IngressBackend
	// Settings limit rates and connections. They change where no call ends, unless an
	// Egress names one that is not there.
	Settings []policyv1alpha1.UpstreamTrafficSetting
}

// Service is a Service: with an address, headless, or an ExternalName.
type Service struct {
	Namespace, Name string
	Address         netip.Addr
	Headless        bool
	ExternalName    string
	Selector        map[string]string
	Ports           []Port
}

// Port is a port of a Service. It leads to the port Target of its pods, or to the one
// that they call TargetName.
type Port struct {
	Name           string
	Number, Target uint16
	TargetName     string
	HTTP           bool
}

// Pod is a pod that is ready.
type Pod struct {
	Namespace, Name, Account string
	Address                  netip.Addr
	Labels                   map[string]string
	Ports                    map[string]uint16
	// Meshed says that it has a sidecar.
	Meshed bool
}

// Speaks is what is said on a connection.
type Speaks string

// What is said on a connection.
const (
	HTTP  Speaks = "HTTP"
	TLS   Speaks = "TLS"
	Bytes Speaks = "bytes"
)

// Call is a connection that an application makes, and what it says.
type Call struct {
	// From is the pod of the application; it has a sidecar.
	From *Pod
	// Address and Port are what the application connects to.
	Address netip.Addr
	Port    uint16
	Speaks  Speaks
	Request
	// ServerName is what a client of TLS asks for.
	ServerName string
}

// Request is a request of HTTP. Names of headers are in lower case.
type Request struct {
	Method, Path, Host string
	Headers            map[string]string
}

// Shares are where a call ends, and how likely each is; they add up to 1.
type Shares map[string]float64

// Ends of calls. A call that somebody serves ends with Served, the address and the port.
const (
	Refused = "refused"
	Reset   = "reset"
	NotHTTP = "not HTTP"
	Missing = "404"
	Denied  = "403"
	Nobody  = "503"
	Served  = "served by "
	ByHost  = "served by the host "
	Passed  = "passed to "
)

func sure(end string) Shares { return Shares{end: 1} }

// Add adds what follows with a share of the likelihood.
func (s Shares) Add(more Shares, share float64) {
	for end, likely := range more {
		s[end] += likely * share
	}
}

func (m *Mesh) service(namespace, name string) *Service {
	for i := range m.Services {
		if s := &m.Services[i]; s.Namespace == namespace && s.Name == name {
			return s
		}
	}
	return nil
}

func (m *Mesh) podAt(address netip.Addr) *Pod {
	for i := range m.Pods {
		if m.Pods[i].Address == address {
			return &m.Pods[i]
		}
	}
	return nil
}

func (s *Service) port(number uint16) *Port {
	for i := range s.Ports {
		if s.Ports[i].Number == number {
			return &s.Ports[i]
		}
	}
	return nil
}

func (s *Service) selects(p *Pod) bool {
	for k, v := range s.Selector {
		if p.Labels[k] != v {
			return false
		}
	}
	return p.Namespace == s.Namespace && len(s.Selector) > 0
}

// of returns the port of a pod that a port of a Service leads to; 0 is none.
func (p *Port) of(pod *Pod) uint16 {
	if p.TargetName != "" {
		return pod.Ports[p.TargetName]
	}
	return p.Target
}

// older orders objects that speak of one thing: the older wins, then the lesser name.
func older(a, b *metav1.ObjectMeta) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// byAge returns objects, the older first.
func byAge[T any](all []T, meta func(*T) *metav1.ObjectMeta) []*T {
	var out []*T
	for i := range all {
		out = append(out, &all[i])
	}
	slices.SortFunc(out, func(a, b *T) int { return older(meta(a), meta(b)) })
	return out
}
