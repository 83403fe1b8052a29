package trust

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
)

const (
	// expiring is how long before its end a root is told of: half a year, since others
	// than the mesh's may have to be asked.
	expiring = 180 * 24 * time.Hour
	// maxMessage is what a condition holds.
	maxMessage = 1024
)

// problem is what somebody has to do something about; what runs is not touched by it.
type problem struct {
	reason string
	err    error
}

// Error implements error.
func (p *problem) Error() string { return p.err.Error() }

// Unwrap returns the cause.
func (p *problem) Unwrap() error { return p.err }

func unreadable(format string, args ...any) error {
	return &problem{reason: operatorv1alpha1.ReasonAuthorityUnreadable, err: fmt.Errorf(format, args...)}
}

func notFollowed(format string, args ...any) error {
	return &problem{reason: operatorv1alpha1.ReasonRootChangeNotFollowed, err: fmt.Errorf(format, args...)}
}

// explain turns what an authority says into what somebody has to do something about.
func explain(err error) error {
	if _, already := errors.AsType[*problem](err); err == nil || already {
		return err
	}
	if _, ok := errors.AsType[*ca.WrongError](err); ok {
		return &problem{reason: operatorv1alpha1.ReasonAuthorityInvalid, err: err}
	}
	if _, ok := errors.AsType[*ca.RefusedError](err); ok {
		return &problem{reason: operatorv1alpha1.ReasonAuthorityRefused, err: err}
	}
	if _, ok := errors.AsType[*ca.UnavailableError](err); ok {
		return &problem{reason: operatorv1alpha1.ReasonAuthorityUnavailable, err: err}
	}
	return err
}

// ends says that a root is good for less time than it takes to plan another.
func ends(root *anchor, now time.Time) error {
	end := root.certificate.NotAfter
	if end.Sub(now) > expiring {
		return nil
	}
	return &problem{reason: operatorv1alpha1.ReasonAuthorityExpiring, err: fmt.Errorf(
		"the root of the mesh, %s, ends in %d days, and with it every certificate", describe(root.certificate), max(0, int(end.Sub(now).Hours()/24)))}
}

// tell writes what is wrong with the authority of a Mesh, or that nothing is. It returns
// what is to be tried again at once: a problem waits for somebody.
func (r *Reconciler) tell(ctx context.Context, m *operatorv1alpha1.Mesh, root *anchor, err error) error {
	next := metav1.Condition{
		Type: operatorv1alpha1.ConditionAuthorityReady, Status: metav1.ConditionTrue, ObservedGeneration: m.Generation,
		Reason: operatorv1alpha1.ReasonAuthorityReady,
	}
	p, expected := errors.AsType[*problem](err)
	switch {
	case expected:
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, p.reason, err.Error()
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		return err // the next look sees what happened
	case err != nil:
		next.Status, next.Reason, next.Message = metav1.ConditionFalse, operatorv1alpha1.ReasonTrustUnavailable, err.Error()
	default:
		next.Message = "workloads trust " + describe(root.certificate)
		if root.vault != nil {
			next.Message += ", whose key is in " + vaultName(root.vault)
		}
	}
	if len(next.Message) > maxMessage {
		next.Message = next.Message[:maxMessage]
	}
	if expected {
		err = nil
	}
	return errors.Join(err, r.write(ctx, m, next))
}

// write patches a condition that is this controller's, if it differs.
func (r *Reconciler) write(ctx context.Context, m *operatorv1alpha1.Mesh, next metav1.Condition) error {
	before := m.DeepCopy()
	if !meta.SetStatusCondition(&m.Status.Conditions, next) {
		return nil
	}
	if written, err := r.patch(ctx, m, before); err != nil || !written {
		return err
	}
	old := meta.FindStatusCondition(before.Status.Conditions, next.Type)
	if old == nil || old.Status != next.Status || old.Reason != next.Reason {
		kind := corev1.EventTypeNormal
		if next.Status != metav1.ConditionTrue {
			kind = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(m, nil, kind, next.Reason, "Trust", "%s", next.Message)
	}
	return nil
}

// patch writes the conditions of a Mesh. The list is written as a whole: not over what the
// mesh controller wrote meanwhile, which wakes this controller. It reports whether it wrote.
func (r *Reconciler) patch(ctx context.Context, m, before *operatorv1alpha1.Mesh) (bool, error) {
	err := r.Client.Status().Patch(ctx, m, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return false, nil
	default:
		return false, fmt.Errorf("writing the status of Mesh %s: %w", m.Name, err)
	}
}
