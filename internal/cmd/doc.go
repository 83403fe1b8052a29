// Package cmd is the edge of the binary: one file per verb, with its flags and the
// wiring of its process. Arguments and standard streams come in, an exit code goes
// out. It decides nothing about a mesh; what a verb does belongs to the package
// that the verb wires up.
package cmd
