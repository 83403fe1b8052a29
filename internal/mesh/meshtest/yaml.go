package meshtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
)

// Read reads facts from YAML documents: those without a kind are Facts, those with one
// are policy objects as users write them.
func Read(data []byte) (*Facts, error) {
	f := &Facts{}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading a document: %w", err)
		}
		var about metav1.TypeMeta
		if err := yaml.Unmarshal(document, &about); err != nil {
			return nil, fmt.Errorf("reading the kind of a document: %w", err)
		}
		if about.Kind == "" {
			err = yaml.UnmarshalStrict(document, f)
		} else {
			err = f.readPolicy(about.Kind, document)
		}
		if err != nil {
			return nil, fmt.Errorf("reading a document of kind %q: %w", about.Kind, err)
		}
	}
}

func (f *Facts) readPolicy(kind string, document []byte) error {
	p := &f.Policies
	switch kind {
	case "TrafficTarget":
		var o accessv1alpha3.TrafficTarget
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.TrafficTargets, o.ObjectMeta, o.Spec)
		return err
	case "HTTPRouteGroup":
		var o specsv1alpha4.HTTPRouteGroup
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.HTTPRouteGroups, o.ObjectMeta, o.Spec)
		return err
	case "TCPRoute":
		var o specsv1alpha4.TCPRoute
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.TCPRoutes, o.ObjectMeta, o.Spec)
		return err
	case "TrafficSplit":
		var o splitv1alpha4.TrafficSplit
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.TrafficSplits, o.ObjectMeta, o.Spec)
		return err
	case "Retry":
		var o policyv1alpha1.Retry
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.Retries, o.ObjectMeta, o.Spec)
		return err
	case "Egress":
		var o policyv1alpha1.Egress
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.Egresses, o.ObjectMeta, o.Spec)
		return err
	case "IngressBackend":
		var o policyv1alpha1.IngressBackend
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.IngressBackends, o.ObjectMeta, o.Spec)
		return err
	case "UpstreamTrafficSetting":
		var o policyv1alpha1.UpstreamTrafficSetting
		err := yaml.UnmarshalStrict(document, &o)
		Put(&p.UpstreamTrafficSettings, o.ObjectMeta, o.Spec)
		return err
	default:
		return errors.New("there is no such kind of policy here")
	}
}

// Put adds a policy object to a map of mesh.Policies.
func Put[Spec any](into *map[mesh.Key]*mesh.Object[Spec], meta metav1.ObjectMeta, spec Spec) {
	if *into == nil {
		*into = map[mesh.Key]*mesh.Object[Spec]{}
	}
	k := mesh.Key{Namespace: meta.Namespace, Name: meta.Name}
	(*into)[k] = &mesh.Object[Spec]{Key: k, UID: string(meta.UID), Generation: meta.Generation, Created: meta.CreationTimestamp.Time, Spec: spec}
}
