package apply

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

// contains reports whether live has all that desired has. What live has on top,
// defaults and the fields of others, does not count; lists must have the same
// length, so that what somebody appended is looked at by the API server, which
// knows whose it is.
func contains(live, desired any) bool {
	switch want := desired.(type) {
	case map[string]any:
		have, ok := live.(map[string]any)
		if !ok {
			return len(want) == 0 && live == nil
		}
		return containsFields(have, want)
	case []any:
		have, ok := live.([]any)
		if !ok {
			return len(want) == 0 && live == nil
		}
		return slices.EqualFunc(have, want, contains)
	default:
		return reflect.DeepEqual(live, desired) || sameQuantity(live, desired)
	}
}

func containsFields(have, want map[string]any) bool {
	for key, value := range want {
		if !contains(have[key], value) {
			return false
		}
	}
	return true
}

// sameQuantity reports whether two strings are one quantity written in two ways.
func sameQuantity(live, desired any) bool {
	a, ok := live.(string)
	if !ok {
		return false
	}
	b, ok := desired.(string)
	if !ok {
		return false
	}
	qa, errA := resource.ParseQuantity(a)
	qb, errB := resource.ParseQuantity(b)
	return errA == nil && errB == nil && qa.Cmp(qb) == 0
}
