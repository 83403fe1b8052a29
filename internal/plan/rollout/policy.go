package rollout

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Defaults of spec.upgrade.
const (
	defaultMaxUnavailable = 5
	defaultSoak           = 60 * time.Second
	defaultDeadline       = 900 * time.Second
	defaultConnect        = 120 * time.Second
	defaultGrace          = 300 * time.Second
	defaultPercent        = 10
)

// RestWave is the name of the wave of all workloads that no other wave selects.
const RestWave = "rest"

// firstWave is the name of the first wave of a policy that names none.
const firstWave = "first"

// Policy is spec.upgrade with its defaults, ready to be asked.
type Policy struct {
	MaxUnavailable           int
	Deadline, Connect, Grace time.Duration
	Waves                    []WavePolicy
}

// WavePolicy is one wave of a Policy.
type WavePolicy struct {
	Name                 string
	Namespaces, Selector labels.Selector
	Percent              int
	Soak                 time.Duration
	Manual               bool
}

// NewPolicy fills in what is not set. The error is about a selector that means nothing.
func NewPolicy(p *operatorv1alpha1.UpgradePolicy) (Policy, error) {
	if p == nil {
		p = &operatorv1alpha1.UpgradePolicy{}
	}
	out := Policy{
		MaxUnavailable: int(cmp.Or(p.MaxUnavailable, defaultMaxUnavailable)),
		Deadline:       cmp.Or(seconds(p.DeadlineSeconds), defaultDeadline),
		Connect:        cmp.Or(seconds(p.ConnectSeconds), defaultConnect),
		Grace:          orSeconds(p.GraceSeconds, defaultGrace),
	}
	soak := orSeconds(p.SoakSeconds, defaultSoak)
	everything := labels.Everything()
	for _, w := range p.Waves {
		namespaces, err := selector(w.NamespaceSelector)
		if err != nil {
			return Policy{}, fmt.Errorf("namespaceSelector of wave %s: %w", w.Name, err)
		}
		workloads, err := selector(w.WorkloadSelector)
		if err != nil {
			return Policy{}, fmt.Errorf("workloadSelector of wave %s: %w", w.Name, err)
		}
		out.Waves = append(out.Waves, WavePolicy{
			Name: w.Name, Namespaces: namespaces, Selector: workloads, Percent: int(cmp.Or(w.Percent, 100)),
			Soak: orSeconds(w.SoakSeconds, soak), Manual: w.Approval == operatorv1alpha1.WaveManual,
		})
	}
	if len(p.Waves) == 0 {
		out.Waves = []WavePolicy{{Name: firstWave, Namespaces: everything, Selector: everything, Percent: defaultPercent, Soak: soak}}
	}
	out.Waves = append(out.Waves, WavePolicy{Name: RestWave, Namespaces: everything, Selector: everything, Percent: 100, Soak: soak})
	return out, nil
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func orSeconds(n *int32, otherwise time.Duration) time.Duration {
	if n == nil {
		return otherwise
	}
	return seconds(*n)
}

func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}
