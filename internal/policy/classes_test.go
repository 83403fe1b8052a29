package policy

import (
	"reflect"
	"strings"
	"testing"
)

// TestClassesHoldNothingUnnoted is what makes it impossible to forget a dependency: what
// classes are compiled from can be read by noted reading only.
func TestClassesHoldNothingUnnoted(t *testing.T) {
	t.Parallel()
	for f := range reflect.TypeFor[classes]().Fields() {
		held := f.Type
		if held.Kind() == reflect.Pointer {
			held = held.Elem()
		}
		if !strings.HasSuffix(held.PkgPath(), "/internal/lineage") {
			t.Errorf("%s is a %s: what classes read of it would not be noted", f.Name, f.Type)
		}
	}
}
