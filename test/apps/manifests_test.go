package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha2 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha2"
	"github.com/openservicemesh/osm-operator/internal/release"
)

// bookstoreManifests reads every object of the bookstore, strictly.
func bookstoreManifests(t *testing.T) []client.Object {
	t.Helper()
	files, err := filepath.Glob("manifests/bookstore/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	var out []client.Object
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, decode(t, name, document))
		}
	}
	return out
}

// decode makes an object of its kind; a field that the kind does not have is an error.
func decode(t *testing.T, name string, document []byte) client.Object {
	t.Helper()
	var kind metav1.TypeMeta
	if err := sigsyaml.Unmarshal(document, &kind); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	kinds := map[string]client.Object{
		"v1/Namespace":        &corev1.Namespace{},
		"v1/Service":          &corev1.Service{},
		"v1/ServiceAccount":   &corev1.ServiceAccount{},
		"apps/v1/Deployment":  &appsv1.Deployment{},
		"apps/v1/StatefulSet": &appsv1.StatefulSet{},
		accessv1alpha3.GroupVersion.String() + "/TrafficTarget": &accessv1alpha3.TrafficTarget{},
		specsv1alpha4.GroupVersion.String() + "/HTTPRouteGroup": &specsv1alpha4.HTTPRouteGroup{},
		specsv1alpha4.GroupVersion.String() + "/TCPRoute":       &specsv1alpha4.TCPRoute{},
		splitv1alpha2.GroupVersion.String() + "/TrafficSplit":   &splitv1alpha2.TrafficSplit{},
	}
	object, ok := kinds[kind.APIVersion+"/"+kind.Kind]
	if !ok {
		t.Fatalf("%s: unexpected kind %s %s", name, kind.APIVersion, kind.Kind)
	}
	if err := sigsyaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %s: %v", name, kind.Kind, err)
	}
	return object
}

// pods lists the pod templates by namespace/name of their owner.
func pods(objects []client.Object) map[string]corev1.PodTemplateSpec {
	out := map[string]corev1.PodTemplateSpec{}
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			out[o.Namespace+"/"+o.Name] = o.Spec.Template
		case *appsv1.StatefulSet:
			out[o.Namespace+"/"+o.Name] = o.Spec.Template
		}
	}
	return out
}

func TestManifestsRunWhatIsBuiltHere(t *testing.T) {
	t.Parallel()
	for name, pod := range pods(bookstoreManifests(t)) {
		c := pod.Spec.Containers[0]
		if want := "docker.io/openservicemesh/bookstore-demo:" + release.Current; c.Image != want {
			t.Errorf("%s: image %s, want %s", name, c.Image, want)
		}
		if _, ok := apps()[c.Args[0]]; !ok {
			t.Errorf("%s: no application is called %s", name, c.Args[0])
		}
		restricted := c.SecurityContext != nil && !*c.SecurityContext.AllowPrivilegeEscalation && *pod.Spec.SecurityContext.RunAsNonRoot &&
			slices.Contains(c.SecurityContext.Capabilities.Drop, "ALL") && pod.Spec.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault
		if !restricted {
			t.Errorf("%s would be refused where Pod Security is restricted", name)
		}
	}
}

func TestManifestsReferToOneAnother(t *testing.T) {
	t.Parallel()
	objects := bookstoreManifests(t)
	have := map[string]bool{}
	for _, o := range objects {
		have[o.GetObjectKind().GroupVersionKind().Kind+"/"+o.GetNamespace()+"/"+o.GetName()] = true
	}
	need := func(kind, namespace, name, by string) {
		if !have[kind+"/"+namespace+"/"+name] {
			t.Errorf("%s names the %s %s/%s, which is not there", by, kind, namespace, name)
		}
	}
	templates := pods(objects)
	for name, pod := range templates {
		namespace, _, _ := strings.Cut(name, "/")
		need("Namespace", "", namespace, name)
		need("ServiceAccount", namespace, pod.Spec.ServiceAccountName, name)
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			selected := slices.ContainsFunc(slices.Collect(maps.Keys(templates)), func(name string) bool {
				return strings.HasPrefix(name, o.Namespace+"/") && labels.SelectorFromSet(o.Spec.Selector).Matches(labels.Set(templates[name].Labels))
			})
			if !selected {
				t.Errorf("Service %s/%s selects nothing", o.Namespace, o.Name)
			}
		case *accessv1alpha3.TrafficTarget:
			need("ServiceAccount", o.Spec.Destination.Namespace, o.Spec.Destination.Name, o.Name)
			for _, s := range o.Spec.Sources {
				need("ServiceAccount", s.Namespace, s.Name, o.Name)
			}
			for _, r := range o.Spec.Rules {
				need(r.Kind, o.Namespace, r.Name, o.Name)
			}
		case *splitv1alpha2.TrafficSplit:
			root, _, _ := strings.Cut(o.Spec.Service, ".")
			need("Service", o.Namespace, root, o.Name)
			for _, b := range o.Spec.Backends {
				need("Service", o.Namespace, b.Service, o.Name)
			}
		}
	}
}
