package status_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/status"
)

// brief writes conditions as Type=Status/Reason.
func brief(conditions []metav1.Condition) string {
	var out []string
	for _, c := range conditions {
		out = append(out, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	return strings.Join(out, " ")
}

func TestRevision(t *testing.T) {
	up := status.ControlPlane{Found: true, RolledOut: true, Wanted: 2, Available: 2}
	known := status.Proxies{Known: true, Connected: 3, Synced: 3}
	cases := map[string]struct {
		controlPlane status.ControlPlane
		proxies      status.Proxies
		applyErr     error
		want         string
	}{
		"All is well": {
			controlPlane: up, proxies: known,
			want: "Ready=True/AllReady Progressing=False/UpToDate Degraded=False/Healthy",
		},
		"Without a replica nothing is ready": {
			controlPlane: status.ControlPlane{Found: true, Wanted: 2}, proxies: status.Proxies{Known: true},
			want: "Ready=False/ControlPlaneUnavailable Progressing=True/RollingOut Degraded=False/Healthy",
		},
		"Half rolled out is ready but not done": {
			controlPlane: status.ControlPlane{Found: true, Wanted: 2, Available: 1}, proxies: known,
			want: "Ready=True/RollingOut Progressing=True/RollingOut Degraded=False/Healthy",
		},
		"A stuck roll-out needs a person": {
			controlPlane: status.ControlPlane{Found: true, Wanted: 2, Available: 1, Stuck: "no image"}, proxies: known,
			want: "Ready=True/RollingOut Progressing=True/RollingOut Degraded=True/ControlPlaneUnavailable",
		},
		"A proxy that rejects needs a person": {
			controlPlane: up, proxies: status.Proxies{Known: true, Connected: 3, Synced: 2, Rejecting: 1},
			want: "Ready=True/AllReady Progressing=False/UpToDate Degraded=True/ProxiesRejecting",
		},
		"Pods without certificates need a person, though not all could be asked": {
			controlPlane: up, proxies: status.Proxies{Unread: []string{"b"}, Waiting: map[string]int{"NoIssuer": 1}},
			want: "Ready=True/AllReady Progressing=False/UpToDate Degraded=True/CertificatesPending",
		},
		"Facts that could not be read are unknown, not zero": {
			controlPlane: up, proxies: status.Proxies{Unread: []string{"osm-controller-0"}},
			want: "Ready=True/AllReady Progressing=False/UpToDate Degraded=Unknown/FactsUnknown",
		},
		"An object that cannot be written is told, and what runs goes on": {
			controlPlane: up, proxies: known, applyErr: errors.New("forbidden"),
			want: "Ready=True/ApplyFailed Progressing=True/Applying Degraded=True/ApplyFailed",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := brief(status.Revision(7, tc.controlPlane, tc.proxies, tc.applyErr)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestMesh(t *testing.T) {
	well := status.Revision(1, status.ControlPlane{Found: true, RolledOut: true, Wanted: 2, Available: 2}, status.Proxies{Known: true}, nil)
	cases := map[string]struct {
		facts status.MeshFacts
		want  string
	}{
		"A Mesh is as its revision is": {
			facts: status.MeshFacts{Revision: well, RevisionSeen: true},
			want:  "Ready=True/AllReady Progressing=False/UpToDate Degraded=False/Healthy",
		},
		"A new Mesh is not ready": {
			facts: status.MeshFacts{},
			want:  "Ready=False/Applying Progressing=True/Applying Degraded=False/Healthy",
		},
		"A changed Mesh stays ready while it is followed": {
			facts: status.MeshFacts{Revision: well, RevisionSeen: false},
			want:  "Ready=True/Applying Progressing=True/Applying Degraded=False/Healthy",
		},
		"A refused Mesh is degraded": {
			facts: status.MeshFacts{Problem: &status.Problem{Reason: operatorv1alpha1.ReasonNamespaceTaken, Err: errors.New("taken")}},
			want:  "Ready=False/NamespaceTaken Progressing=False/NamespaceTaken Degraded=True/NamespaceTaken",
		},
		"A refused change leaves ready what runs": {
			facts: status.MeshFacts{Revision: well, Problem: &status.Problem{Reason: operatorv1alpha1.ReasonUnknownVersion, Err: errors.New("unknown")}},
			want:  "Ready=True/UnknownVersion Progressing=False/UnknownVersion Degraded=True/UnknownVersion",
		},
		"A paused Mesh is as its revision is, and goes nowhere": {
			facts: status.MeshFacts{Paused: true, Revision: well, RevisionSeen: true},
			want:  "Progressing=False/Paused Ready=True/AllReady Degraded=False/Healthy",
		},
		"A Mesh that was paused before it was installed is not ready": {
			facts: status.MeshFacts{Paused: true},
			want:  "Ready=False/Paused Progressing=False/Paused Degraded=False/Healthy",
		},
		"A paused Mesh that is refused says why": {
			facts: status.MeshFacts{Paused: true, Revision: well, Problem: &status.Problem{Reason: operatorv1alpha1.ReasonUnknownVersion, Err: errors.New("unknown")}},
			want:  "Ready=True/UnknownVersion Progressing=False/UnknownVersion Degraded=True/UnknownVersion",
		},
		"A Mesh whose workloads move is on its way": {
			facts: status.MeshFacts{Revision: well, RevisionSeen: true, Upgrade: &operatorv1alpha1.UpgradeStatus{Phase: operatorv1alpha1.UpgradeMoving}},
			want:  "Ready=True/AllReady Progressing=True/Upgrading Degraded=False/Healthy",
		},
		"A Mesh whose wave goes back needs a person": {
			facts: status.MeshFacts{Revision: well, RevisionSeen: true, Upgrade: &operatorv1alpha1.UpgradeStatus{Phase: operatorv1alpha1.UpgradeUndoing}},
			want:  "Ready=True/AllReady Progressing=True/Upgrading Degraded=True/UpgradeFailed",
		},
		"A Mesh whose upgrade failed needs a person, and goes nowhere": {
			facts: status.MeshFacts{Revision: well, RevisionSeen: true, Upgrade: &operatorv1alpha1.UpgradeStatus{Phase: operatorv1alpha1.UpgradeFailed}},
			want:  "Ready=True/AllReady Progressing=False/UpToDate Degraded=True/UpgradeFailed",
		},
		"A failed upgrade is told of a paused Mesh too": {
			facts: status.MeshFacts{Paused: true, Revision: well, RevisionSeen: true, Upgrade: &operatorv1alpha1.UpgradeStatus{Phase: operatorv1alpha1.UpgradeFailed}},
			want:  "Progressing=False/Paused Ready=True/AllReady Degraded=True/UpgradeFailed",
		},
		"A Mesh that waits for its old control plane to be left has arrived": {
			facts: status.MeshFacts{Revision: well, RevisionSeen: true, Upgrade: &operatorv1alpha1.UpgradeStatus{Phase: operatorv1alpha1.UpgradeRetiring}},
			want:  "Ready=True/AllReady Progressing=False/UpToDate Degraded=False/Healthy",
		},
		"A held deletion says so": {
			facts: status.MeshFacts{Deleting: true, Blocking: 3, Revision: well},
			want:  "Ready=True/WaitingForWorkloads Progressing=True/WaitingForWorkloads Degraded=True/WaitingForWorkloads",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := brief(status.Mesh(tc.facts)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestPodsThatWaitAreCountedByReason(t *testing.T) {
	up := status.ControlPlane{Found: true, RolledOut: true, Wanted: 2, Available: 2}
	got := status.Revision(1, up, status.Proxies{Known: true, Waiting: map[string]int{"NoIssuer": 1, "AuthorityUnavailable": 2}}, nil)
	if message := got[len(got)-1].Message; !strings.Contains(message, "2 for AuthorityUnavailable, 1 for NoIssuer") {
		t.Errorf("the message is %q", message)
	}
}

func TestCounts(t *testing.T) {
	got := status.Proxies{Pods: 4, Connected: 9}.Counts()
	if got.Pods == nil || *got.Pods != 4 || got.Connected != nil {
		t.Errorf("Counts of unknown facts: %+v, want the pods alone", got)
	}
}

// TestAuthorityShowsInDegraded has a certificate authority in need show where one looks
// first, and hide nothing that is there already.
func TestAuthorityShowsInDegraded(t *testing.T) {
	authority := func(s metav1.ConditionStatus) *metav1.Condition {
		return &metav1.Condition{Type: operatorv1alpha1.ConditionAuthorityReady, Status: s, Reason: operatorv1alpha1.ReasonAuthorityInvalid, Message: "no key"}
	}
	problem := &status.Problem{Reason: operatorv1alpha1.ReasonUnknownVersion, Err: errors.New("no such version")}
	for name, tc := range map[string]struct {
		facts status.MeshFacts
		want  string
	}{
		"nothing is told":    {facts: status.MeshFacts{}, want: operatorv1alpha1.ReasonHealthy},
		"it is ready":        {facts: status.MeshFacts{Authority: authority(metav1.ConditionTrue)}, want: operatorv1alpha1.ReasonHealthy},
		"it is not":          {facts: status.MeshFacts{Authority: authority(metav1.ConditionFalse)}, want: operatorv1alpha1.ReasonAuthorityInvalid},
		"a gateway has none": {facts: status.MeshFacts{Gateway: authority(metav1.ConditionFalse)}, want: operatorv1alpha1.ReasonAuthorityInvalid},
		"more is the matter": {facts: status.MeshFacts{Authority: authority(metav1.ConditionFalse), Problem: problem}, want: operatorv1alpha1.ReasonUnknownVersion},
	} {
		t.Run(name, func(t *testing.T) {
			c := meta.FindStatusCondition(status.Mesh(tc.facts), operatorv1alpha1.ConditionDegraded)
			if c == nil || c.Reason != tc.want || (c.Status == metav1.ConditionTrue) != (tc.want != operatorv1alpha1.ReasonHealthy) {
				t.Errorf("Degraded is %+v, want %s", c, tc.want)
			}
		})
	}
}

// TestPodsThatNeedARestartAreNamed bounds what is said of them.
func TestPodsThatNeedARestartAreNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		pods    *status.PodSettings
		reason  string
		message string
	}{
		"not known": {},
		"none":      {pods: &status.PodSettings{Total: 3}, reason: operatorv1alpha1.ReasonPodsCurrent, message: "all pods"},
		"one":       {pods: &status.PodSettings{Total: 3, Outdated: []string{"a/b"}}, reason: operatorv1alpha1.ReasonRestartNeeded, message: "1 of 3 pods keep older settings until they are restarted: a/b"},
		"many":      {pods: &status.PodSettings{Total: 9, Outdated: strings.Fields("a b c d e f g")}, reason: operatorv1alpha1.ReasonRestartNeeded, message: "a, b, c, d, e and 2 more"},
	} {
		t.Run(name, func(t *testing.T) {
			c := meta.FindStatusCondition(status.Mesh(status.MeshFacts{Pods: tc.pods}), operatorv1alpha1.ConditionPodsCurrent)
			if c == nil {
				c = &metav1.Condition{}
			}
			if c.Reason != tc.reason || !strings.Contains(c.Message, tc.message) {
				t.Errorf("the condition is %+v, want %s with %q", c, tc.reason, tc.message)
			}
		})
	}
}
