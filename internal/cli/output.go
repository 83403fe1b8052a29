package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// table is a list for people, with columns that only -o wide shows.
type table struct {
	Header, Wide []string
	Rows         []row
	// Empty is printed in place of a table without rows.
	Empty string
}

type row struct {
	Cells, Wide []string
}

func addOutput(c *cobra.Command) *string {
	format := c.Flags().StringP("output", "o", "", "output format: json, yaml or wide; a table when absent")
	return format
}

// print writes v in a format for programs, or t for people.
func (e *Env) print(format string, v any, t table) error {
	switch format {
	case "json":
		raw, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		e.printf("%s\n", raw)
		return nil
	case "yaml":
		raw, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		e.printf("%s", raw)
		return nil
	case "", "wide":
		return e.printTable(t, format == "wide")
	default:
		return fmt.Errorf("unknown output format %q: use json, yaml or wide", format)
	}
}

func (e *Env) printTable(t table, wide bool) error {
	if len(t.Rows) == 0 {
		e.printf("%s\n", t.Empty)
		return nil
	}
	w := tabwriter.NewWriter(e.Out, 0, 0, 3, ' ', 0)
	line := func(cells, more []string) {
		if wide {
			cells = append(append([]string{}, cells...), more...)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	line(t.Header, t.Wide)
	for _, r := range t.Rows {
		line(r.Cells, r.Wide)
	}
	return w.Flush()
}
