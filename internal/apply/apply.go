// Package apply writes objects: desired objects go in, server-side apply with one
// field owner makes the cluster follow them, and what changed comes out. Before it
// touches an object that exists it checks whose it is. It decides nothing about
// what should exist.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// hashAnnotation holds the hash of what was applied last, so that a field that is
// no longer wanted is given up although nothing else differs.
const hashAnnotation = "openservicemesh.io/applied"

// Outcome says what happened to an object.
type Outcome string

const (
	// Unchanged says that the object was as wanted already.
	Unchanged Outcome = "unchanged"
	// Created says that the object did not exist.
	Created Outcome = "created"
	// Updated says that something else was wanted than was applied last.
	Updated Outcome = "updated"
	// Repaired says that somebody changed what was applied, and that it was put back.
	Repaired Outcome = "repaired"
)

// Result is what happened to one object.
type Result struct {
	GVK     schema.GroupVersionKind
	Key     client.ObjectKey
	Outcome Outcome
}

// String names the object as people do.
func (r Result) String() string {
	if r.Key.Namespace == "" {
		return r.GVK.Kind + " " + r.Key.Name
	}
	return r.GVK.Kind + " " + r.Key.String()
}

// ForeignError says that an object of that name belongs to someone else.
type ForeignError struct {
	Result
	Mesh string
}

// Error implements error.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s exists and does not belong to Mesh %s: rename or delete it, or label it %s=%s to hand it over",
		e.Result, e.Mesh, operatorv1alpha1.LabelMesh, e.Mesh)
}

// Object is what can be written: any Kubernetes object. It is an alias, so that
// packages that must not know one another mean the same.
type Object = interface {
	metav1.Object
	runtime.Object
}

// Applier writes objects as one field owner.
type Applier struct {
	// Reader reads live objects, Writer writes them.
	Reader client.Reader
	Writer client.Client
	// Owner is the field owner.
	Owner string
}

// Apply makes the cluster follow the objects, in order, and returns what happened
// to each up to the first error. The error of an object that belongs to someone
// else is a *ForeignError.
func (a *Applier) Apply(ctx context.Context, mesh string, objects ...Object) ([]Result, error) {
	results := make([]Result, 0, len(objects))
	for _, object := range objects {
		r, err := a.one(ctx, mesh, object)
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (a *Applier) one(ctx context.Context, mesh string, object Object) (Result, error) {
	desired, err := toUnstructured(object)
	if err != nil {
		return Result{}, fmt.Errorf("rendering %s %s: %w", object.GetObjectKind().GroupVersionKind().Kind, object.GetName(), err)
	}
	r := Result{GVK: desired.GroupVersionKind(), Key: client.ObjectKeyFromObject(desired), Outcome: Created}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(r.GVK)
	if err := a.Reader.Get(ctx, r.Key, live); err == nil {
		if err := claim(&r, mesh, live, desired); err != nil {
			return r, err
		}
	} else if !apierrors.IsNotFound(err) {
		return r, fmt.Errorf("reading %s: %w", r, err)
	}
	if err := stampHash(desired); err != nil {
		return r, fmt.Errorf("hashing %s: %w", r, err)
	}
	if r.Outcome == Repaired {
		if contains(live.Object, desired.Object) {
			r.Outcome = Unchanged
			return r, nil
		}
		if live.GetAnnotations()[hashAnnotation] != desired.GetAnnotations()[hashAnnotation] {
			r.Outcome = Updated
		}
	}
	if err := a.Writer.Apply(ctx, client.ApplyConfigurationFromUnstructured(desired), client.FieldOwner(a.Owner), client.ForceOwnership); err != nil {
		return r, fmt.Errorf("applying %s: %w", r, err)
	}
	return r, nil
}

// claim says whose an object is that exists: the mesh's, or nobody's and to be
// adopted. All others are refused.
func claim(r *Result, mesh string, live, desired *unstructured.Unstructured) error {
	switch {
	case live.GetLabels()[operatorv1alpha1.LabelMesh] == mesh || sameOwner(live, desired):
		r.Outcome = Repaired
	case adoptable(r.GVK) && live.GetLabels()[operatorv1alpha1.LabelMesh] == "":
		r.Outcome = Updated
	default:
		return &ForeignError{Result: *r, Mesh: mesh}
	}
	// What was there before the mesh has no owner, and stays when the mesh goes.
	if adoptable(r.GVK) && (r.Outcome == Updated || len(live.GetOwnerReferences()) == 0) {
		desired.SetOwnerReferences(nil)
	}
	return nil
}

// sameOwner reports whether live is controlled by the owner that desired names, by
// UID: an object that lost its label is still the mesh's.
func sameOwner(live, desired *unstructured.Unstructured) bool {
	have, want := metav1.GetControllerOfNoCopy(live), metav1.GetControllerOfNoCopy(desired)
	return have != nil && want != nil && have.UID == want.UID
}

// adoptable kinds may be there before the mesh is.
func adoptable(gvk schema.GroupVersionKind) bool {
	return gvk.GroupKind() == schema.GroupKind{Kind: "Namespace"} ||
		gvk.GroupKind() == schema.GroupKind{Group: configv1alpha2.GroupVersion.Group, Kind: "MeshConfig"}
}

func stampHash(u *unstructured.Unstructured) error {
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[hashAnnotation] = hex.EncodeToString(sum[:8])
	u.SetAnnotations(annotations)
	return nil
}

// toUnstructured keeps only what is wanted: no status, no zero timestamps, no
// empty parts that typed structs always have.
func toUnstructured(object Object) (*unstructured.Unstructured, error) {
	if object.GetObjectKind().GroupVersionKind().Empty() {
		return nil, errors.New("an object to apply has no kind")
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	prune(content)
	u := &unstructured.Unstructured{Object: content}
	if u.GroupVersionKind() == corev1.SchemeGroupVersion.WithKind("Namespace") {
		delete(content, "spec")
	}
	return u, nil
}

// prune removes nil values and the empty objects that typed structs always write.
// An empty object or list that stands for itself, such as a selector of all, is
// wrapped by types that omit it when it is not set, so that nothing is lost but
// what is written by accident.
func prune(object map[string]any) {
	for key, value := range object {
		switch v := value.(type) {
		case nil:
			delete(object, key)
		case map[string]any:
			prune(v)
			if len(v) == 0 && writtenByAccident(key) {
				delete(object, key)
			}
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					prune(m)
				}
			}
		}
	}
}

// writtenByAccident tells the fields of struct type without omitempty in the kinds
// that are applied.
func writtenByAccident(field string) bool {
	switch field {
	case "resources", "strategy", "status", "spec":
		return true
	default:
		return false
	}
}
