package cmd

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/openservicemesh/osm-operator/internal/release"
)

// buildInfo says what this binary was built from.
type buildInfo struct {
	Version   string `json:"version"`
	GitCommit string `json:"gitCommit,omitempty"`
	BuildDate string `json:"buildDate,omitempty"`
	Modified  bool   `json:"modified,omitempty"`
	Envoy     string `json:"envoy"`
	Go        string `json:"go"`
	Platform  string `json:"platform"`
}

// currentBuild reads what the Go linker recorded; a build outside a checkout has
// no commit and no date.
func currentBuild() buildInfo {
	b := buildInfo{
		Version:  release.Current,
		Envoy:    release.EnvoyVersion,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.GitCommit = s.Value
		case "vcs.time":
			b.BuildDate = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// newVersionCommand returns the verb that prints what this binary is.
func newVersionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := formatBuild(currentBuild(), output)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), text)
			return err
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "output format: json, yaml, wide, or empty for one line")
	return c
}

// formatBuild prints b in one of the output formats.
func formatBuild(b buildInfo, output string) (string, error) {
	switch output {
	case "":
		return fmt.Sprintf("osm %s\n", b.Version), nil
	case "wide":
		return fmt.Sprintf("osm %s, Envoy %s, commit %s, %s, %s\n", b.Version, b.Envoy, orUnknown(b.GitCommit), b.Go, b.Platform), nil
	case "json":
		data, err := json.MarshalIndent(b, "", "  ")
		return string(data) + "\n", err
	case "yaml":
		data, err := yaml.Marshal(b)
		return string(data), err
	default:
		return "", fmt.Errorf("unknown output format %q: use json, yaml or wide", output)
	}
}

// orUnknown returns s, or a word that says that it is not known.
func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
