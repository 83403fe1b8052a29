package rollout

import (
	"time"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/gate"
)

// State is what has to be remembered from one step to the next. Its zero value is a
// mesh that has nothing yet.
type State struct {
	// Current is the revision that new pods get.
	Current string
	// Target is the revision that workloads move to, empty if there is none.
	Target string
	// Phase is empty while there is nothing to do.
	Phase operatorv1alpha1.UpgradePhase
	// Wave is the number of the wave that is worked on, Progress the most of its workloads
	// and pods that were ready with the target at a time.
	Wave, Progress int
	// Started is when the upgrade began, Since when its step did
	// or last came forward, Soaking when the wave
	// passed its gates, Unused when nothing used the old revisions any more, Paused when
	// the clock was stopped.
	Started, Since, Soaking, Unused, Paused time.Time
	// Evidence is why a step was undone, FailedGeneration the generation of the spec then.
	Evidence         string
	FailedGeneration int64
}

// Revision is a control plane that is installed.
type Revision struct {
	Name string
	// Ready says that it serves, Settled that all of its replicas are rolled out, Reason
	// what is missing.
	Ready, Settled bool
	Reason         string
	// Pods counts those that it injected, Sessions the proxies that are connected to it.
	// SessionsKnown is false if some replica could not be asked.
	Pods, Sessions int
	SessionsKnown  bool
}

// Ref names a workload.
type Ref struct {
	Kind, Namespace, Name string
}

// String names the workload as people do.
func (r Ref) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Workload is a Deployment, a StatefulSet or a DaemonSet with pods of the mesh.
type Workload struct {
	Ref
	// Labels are its own, NamespaceLabels its namespace's.
	Labels, NamespaceLabels map[string]string
	// Revision is what its pod template asks for, empty if it does not ask.
	Revision string
	// Wave is the mark of the wave that it moved in, REVISION/WAVE.
	Wave string
	// RolledOut says that all its pods are of its newest template, and ready.
	RolledOut bool
	// Excluded is why it is never restarted, empty if it may be.
	Excluded string
	// Unwell is why it is not well as it is, empty if it is. It is not moved then: nothing
	// could be told of what it got.
	Unwell string
	// Pods are those that have the mesh's sidecar.
	Pods []Pod
}

// kept is why a workload is not given a revision now, empty if it may be. One that has been
// given it is held to its gates, however it is.
func (l Workload) kept(revision string) string {
	if l.Excluded == "" && l.Revision != revision {
		return l.Unwell
	}
	return l.Excluded
}

// Pod is a pod of a workload.
type Pod struct {
	gate.Pod
	// Revision is the one that injected it.
	Revision string
}

// Facts are what was observed, and what is wanted.
type Facts struct {
	Now time.Time
	// Generation is that of the spec.
	Generation int64
	// Wanted is the revision that the spec asks for.
	Wanted string
	// Paused says that nothing may be done.
	Paused bool
	// Approved is the wave that a person let go, REVISION/WAVE.
	Approved  string
	Policy    Policy
	Revisions []Revision
	Workloads []Workload
	// Loose are pods that belong to no workload that can be moved.
	Loose []Loose
}

// Loose is a pod that belongs to no workload that can be moved.
type Loose struct {
	// Name is namespace/name, Revision the one that injected it.
	Name, Revision string
	// Reason is why it is not restarted.
	Reason string
}

func (f Facts) revision(name string) Revision {
	for _, r := range f.Revisions {
		if r.Name == name {
			return r
		}
	}
	return Revision{Name: name, Reason: "it is not there yet"}
}

// Move is a workload that has to be given another revision.
type Move struct {
	Ref
	// To is the revision, Wave the mark to leave.
	To, Wave string
}

// Decision is what follows.
type Decision struct {
	State State
	// Moves are to be made now.
	Moves []Move
	// Retire are revisions to delete now.
	Retire []string
	// Waves, Gates, Untouched and Message are to be told.
	Waves     []operatorv1alpha1.WaveStatus
	Gates     []gate.Result
	Untouched []string
	Message   string
	// Ended are upgrades that have ended with this step, to be remembered.
	Ended []operatorv1alpha1.UpgradeRecord
}
