package telemetry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/openservicemesh/osm-operator/internal/telemetry"
)

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, level, err := telemetry.NewLogger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	log.V(4).Info("Hidden")
	log.WithName("part").Info("Shown", "Mesh", "osm")
	log.Error(errors.New("boom"), "Failed")
	if err := level.Set("debug"); err != nil {
		t.Fatal(err)
	}
	log.V(4).Info("Shown now")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3:\n%s", len(lines), out.String())
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	if first["message"] != "Shown" || first["level"] != "info" || first["Mesh"] != "osm" {
		t.Errorf("the first line is %v", first)
	}
	if err := level.Set("loud"); err == nil {
		t.Error("a level that is none was taken")
	}
}
