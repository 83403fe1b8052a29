package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/inject"
)

// Injector adds the sidecar to new pods of the mesh.
type Injector struct {
	// Namespace returns what is known of a namespace. An error refuses the pod,
	// since a pod must not come up without the sidecar that it should have.
	Namespace func(ctx context.Context, name string) (inject.Namespace, error)
	// Config returns the settings for the sidecar of a pod that asks for a revision; an
	// empty one is the mesh's current.
	Config func(ctx context.Context, revision string) (inject.Config, error)
	// UUID makes the mark of a pod.
	UUID func() types.UID
	// Answered is told of each answer; it may be nil.
	Answered func(success bool)
}

// Handle implements admission.Handler.
func (i *Injector) Handle(ctx context.Context, req admission.Request) admission.Response {
	response := i.handle(ctx, req)
	if i.Answered != nil {
		i.Answered(response.Allowed)
	}
	if !response.Allowed {
		logf.FromContext(ctx).Info("Refused pod", "Namespace", req.Namespace, "Pod", podName(req), "reason", response.Result.Message)
	}
	return response
}

func (i *Injector) handle(ctx context.Context, req admission.Request) admission.Response {
	var pod corev1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("osm: decoding the pod: %w", err))
	}
	ns, err := i.Namespace(ctx, req.Namespace)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("osm: reading namespace %s: %w", req.Namespace, err))
	}
	config, err := i.Config(ctx, pod.Annotations[operatorv1alpha1.AnnotationRevision])
	if err != nil {
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf("osm: %w", err))
	}
	decision, err := inject.Decide(&pod, ns, config)
	if err != nil {
		return refuse(err)
	}
	if !decision.Inject {
		return admission.Allowed(decision.Reason)
	}
	injected, err := inject.Pod(&pod, ns, config, i.UUID())
	if err != nil {
		return refuse(err)
	}
	before, err := json.Marshal(&pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("osm: encoding the pod: %w", err))
	}
	after, err := json.Marshal(injected)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("osm: encoding the injected pod: %w", err))
	}
	// Both sides are encoded here, so that a field that this version does not know
	// is in neither and the patch leaves it alone.
	return admission.PatchResponseFromRaw(before, after)
}

// refuse tells the person who made the pod why it cannot be.
func refuse(err error) admission.Response {
	return admission.Errored(http.StatusUnprocessableEntity, fmt.Errorf("osm: the pod cannot get a sidecar: %w", err))
}

func podName(req admission.Request) string {
	if req.Name != "" {
		return req.Name
	}
	var meta struct {
		Metadata struct {
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(req.Object.Raw, &meta); err != nil {
		return ""
	}
	return meta.Metadata.GenerateName
}
