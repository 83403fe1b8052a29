// Command osm is the whole of Open Service Mesh in one binary: the operator, the
// control plane, the init container and the command line. Its first argument says
// which; package cmd does the rest.
package main

import (
	"os"

	"github.com/openservicemesh/osm-operator/internal/cmd"
)

func main() {
	os.Exit(cmd.Execute(os.Args[1:], cmd.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
