package v1alpha1

// HealthCheckMode says whether pods are asked.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type HealthCheckMode string

const (
	// HealthCheckEnabled has callers ask.
	HealthCheckEnabled HealthCheckMode = "Enabled"
	// HealthCheckDisabled has callers ask nothing, though the MeshConfig says so.
	HealthCheckDisabled HealthCheckMode = "Disabled"
)

// HealthCheckSpec has each caller ask the pods' sidecars whether their applications
// listen, and call none that does not.
//
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'Disabled' || (!has(self.interval) && !has(self.timeout) && !has(self.unhealthyThreshold) && !has(self.healthyThreshold))",message="where mode is Disabled nothing else has a meaning"
type HealthCheckSpec struct {
	// mode is Enabled when absent.
	// +optional
	Mode HealthCheckMode `json:"mode,omitempty"`
	// interval is how often a pod is asked; 10 s when absent.
	// +optional
	Interval *Duration `json:"interval,omitempty"`
	// timeout bounds the wait for an answer; 1 s when absent.
	// +optional
	Timeout *Duration `json:"timeout,omitempty"`
	// unhealthyThreshold is how many answers that a pod does not listen, or none, in a row
	// keep callers from it; 3 when absent. A new pod is not called before it listens.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	UnhealthyThreshold *int64 `json:"unhealthyThreshold,omitempty"`
	// healthyThreshold is how many answers that it listens bring them back; 1 when absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	HealthyThreshold *int64 `json:"healthyThreshold,omitempty"`
}
