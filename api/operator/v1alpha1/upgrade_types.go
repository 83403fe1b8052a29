package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UpgradePolicy says how the mesh gets from one version, or one set of settings, to
// another.
type UpgradePolicy struct {
	// strategy is how a change of the version, of an image or of the workload identity is
	// made. InPlace changes the control plane where it stands, and leaves the sidecars of
	// running pods as they are until they are restarted. Canary installs a control plane
	// beside the one that runs and moves workloads to it wave by wave. InPlace when absent.
	// +optional
	Strategy UpgradeStrategy `json:"strategy,omitempty"`
	// waves are the workloads that move together, in order. A workload is in the first
	// wave that selects it; what none selects moves last. A tenth of the workloads, and
	// then all others, when absent.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Waves []UpgradeWave `json:"waves,omitempty"`
	// maxUnavailable is how many workloads of a wave may be restarting at once; 5 when
	// absent. How many pods of each is the workload's own affair.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
	// soakSeconds is how long a wave must hold, once it has passed its gates, before the
	// next one moves; 60 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	SoakSeconds *int32 `json:"soakSeconds,omitempty"`
	// deadlineSeconds is how long a step may make no progress, the soak not counted: the
	// new control plane on its way to be ready, or a wave in which no more workloads become
	// ready and not all gates pass. Such a step is undone. 900 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=604800
	DeadlineSeconds int32 `json:"deadlineSeconds,omitempty"`
	// connectSeconds is how long the sidecar of a pod that moved may take to connect to
	// the new control plane and to acknowledge all that it is sent; 120 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=3600
	ConnectSeconds int32 `json:"connectSeconds,omitempty"`
	// graceSeconds is how long a control plane stays after the last pod and the last
	// connected sidecar have left it; 300 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	GraceSeconds *int32 `json:"graceSeconds,omitempty"`
}

// UpgradeWave is a group of workloads that move together. A workload is in it if it
// meets all that is set.
type UpgradeWave struct {
	// name tells the wave from the others.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'rest'",message="rest is the name of the wave of all workloads that no other wave selects"
	Name string `json:"name,omitempty"`
	// namespaceSelector selects namespaces by their labels; all when absent.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// workloadSelector selects Deployments, StatefulSets and DaemonSets by their own
	// labels; all when absent.
	// +optional
	WorkloadSelector *metav1.LabelSelector `json:"workloadSelector,omitempty"`
	// percent is the share, of the workloads that are selected and in no wave before,
	// that this wave takes, rounded up; 100 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent,omitempty"`
	// soakSeconds is this wave's, in place of the one for all.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	SoakSeconds *int32 `json:"soakSeconds,omitempty"`
	// approval Manual has the wave wait until the Mesh is annotated with
	// openservicemesh.io/approve-wave: REVISION/WAVE, which the status spells out;
	// Automatic when absent.
	// +optional
	Approval WaveApproval `json:"approval,omitempty"`
}

// UpgradeStrategy is how a change is made that running control planes cannot follow.
//
// +kubebuilder:validation:Enum=Canary;InPlace
type UpgradeStrategy string

const (
	// UpgradeCanary installs a control plane beside the one that runs, and moves
	// workloads to it wave by wave.
	UpgradeCanary UpgradeStrategy = "Canary"
	// UpgradeInPlace changes the control plane where it stands.
	UpgradeInPlace UpgradeStrategy = "InPlace"
)

// WaveApproval says whether a wave waits for a person.
//
// +kubebuilder:validation:Enum=Automatic;Manual
type WaveApproval string

const (
	// WaveAutomatic has a wave begin when the one before has passed.
	WaveAutomatic WaveApproval = "Automatic"
	// WaveManual has a wave wait for a person's word.
	WaveManual WaveApproval = "Manual"
)

// UpgradePhase is where an upgrade is.
//
// +kubebuilder:validation:Enum=Preparing;AwaitingApproval;Moving;Soaking;Promoting;Retiring;Undoing;RollingBack;Failed
type UpgradePhase string

const (
	// UpgradePreparing waits for the new control plane to be ready.
	UpgradePreparing UpgradePhase = "Preparing"
	// UpgradeAwaitingApproval waits for a person's word on a wave.
	UpgradeAwaitingApproval UpgradePhase = "AwaitingApproval"
	// UpgradeMoving moves a wave and waits for its gates.
	UpgradeMoving UpgradePhase = "Moving"
	// UpgradeSoaking watches a wave that has passed its gates.
	UpgradeSoaking UpgradePhase = "Soaking"
	// UpgradePromoting gives the new control plane to all new pods.
	UpgradePromoting UpgradePhase = "Promoting"
	// UpgradeRetiring waits until nothing uses the old control plane, and removes it.
	UpgradeRetiring UpgradePhase = "Retiring"
	// UpgradeUndoing moves a wave that failed back.
	UpgradeUndoing UpgradePhase = "Undoing"
	// UpgradeRollingBack moves all workloads back, since the spec asks for it.
	UpgradeRollingBack UpgradePhase = "RollingBack"
	// UpgradeFailed has given up, until the spec changes.
	UpgradeFailed UpgradePhase = "Failed"
)

// UpgradeStatus tells of the upgrade that is under way, or that failed.
type UpgradeStatus struct {
	// phase is where it is.
	// +optional
	Phase UpgradePhase `json:"phase,omitempty"` //nolint:kubeapilinter // a state machine has one state, and conditions tell what follows
	// target is the MeshRevision that workloads move to, as the objects of that control
	// plane carry it; absent once it is the one that new pods get.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Target string `json:"target,omitempty"`
	// wave is the number of the wave that is worked on, from 0.
	// +optional
	Wave int32 `json:"wave,omitempty"`
	// progress is the most of its workloads and pods that were ready with the target at a time.
	// +optional
	Progress int32 `json:"progress,omitempty"`
	// message says in words what happens, and what it waits for.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// evidence is why a wave was undone.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Evidence string `json:"evidence,omitempty"`
	// startedAt is when it began.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// since is when the step began, or last came forward: the preparation, the wave, the
	// retirement.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// soakingSince is when the wave passed its gates.
	// +optional
	SoakingSince *metav1.Time `json:"soakingSince,omitempty"`
	// unusedSince is when the last pod and the last sidecar left the old control plane.
	// +optional
	UnusedSince *metav1.Time `json:"unusedSince,omitempty"`
	// pausedSince is when spec.paused stopped the clock.
	// +optional
	PausedSince *metav1.Time `json:"pausedSince,omitempty"`
	// failedGeneration is the generation of the spec that failed.
	// +optional
	FailedGeneration int64 `json:"failedGeneration,omitempty"`
	// waves tells how far each wave is.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=17
	Waves []WaveStatus `json:"waves,omitempty"`
	// gates are the checks of the wave that is worked on.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Gates []GateStatus `json:"gates,omitempty"`
	// untouched counts and names what the mesh does not restart.
	// +optional
	Untouched *UntouchedWorkloads `json:"untouched,omitempty"`
}

// WaveStatus tells how far a wave is.
type WaveStatus struct {
	// name is the wave's.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name,omitempty"`
	// workloads is the number of workloads in it, moved of those that were given the
	// new revision, ready of those whose pods all have it and are ready.
	// +optional
	Workloads int32 `json:"workloads,omitempty"`
	// moved is the number of workloads that were given the new revision.
	// +optional
	Moved int32 `json:"moved,omitempty"`
	// ready is the number of moved workloads that are rolled out.
	// +optional
	Ready int32 `json:"ready,omitempty"`
}

// GateStatus is what a check of a wave says.
type GateStatus struct {
	// name is the check's.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name,omitempty"`
	// verdict is Pass, Wait or Fail.
	// +optional
	// +kubebuilder:validation:Enum=Pass;Wait;Fail
	Verdict string `json:"verdict,omitempty"`
	// message says why.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// UntouchedWorkloads counts and names what the mesh does not restart: it keeps its
// sidecar until somebody does.
type UntouchedWorkloads struct {
	// count is the number of them.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Count int32 `json:"count,omitempty"`
	// names are the first of them, each with the reason.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=512
	Names []string `json:"names,omitempty"`
}

// UpgradeOutcome is how an upgrade ended.
//
// +kubebuilder:validation:Enum=Succeeded;Undone;RolledBack;Superseded
type UpgradeOutcome string

const (
	// UpgradeSucceeded says that new pods get the new revision.
	UpgradeSucceeded UpgradeOutcome = "Succeeded"
	// UpgradeUndone says that a step failed and was undone.
	UpgradeUndone UpgradeOutcome = "Undone"
	// UpgradeRolledBack says that the spec was changed back on the way.
	UpgradeRolledBack UpgradeOutcome = "RolledBack"
	// UpgradeSuperseded says that the spec asked for something else on the way.
	UpgradeSuperseded UpgradeOutcome = "Superseded"
)

// UpgradeRecord tells of an upgrade that has ended.
type UpgradeRecord struct {
	// from is the revision that workloads had, to the one that they were to get.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	From string `json:"from,omitempty"`
	// to is the revision that workloads were to get.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	To string `json:"to,omitempty"`
	// outcome is how it ended.
	// +optional
	Outcome UpgradeOutcome `json:"outcome,omitempty"`
	// evidence says why, where it did not succeed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Evidence string `json:"evidence,omitempty"`
	// startedAt is when it began.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// endedAt is when it ended.
	// +optional
	EndedAt *metav1.Time `json:"endedAt,omitempty"`
}
