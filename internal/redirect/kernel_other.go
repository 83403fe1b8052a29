//go:build !linux

package redirect

import "errors"

// errLinux is the answer anywhere else.
var errLinux = errors.New("redirection needs Linux")

// Apply puts the table into the kernel, on Linux.
func Apply(Ruleset) error { return errLinux }

// Verify compares the kernel's table with the ruleset, on Linux.
func Verify(Ruleset) error { return errLinux }

// Remove takes the table out of the kernel, on Linux.
func Remove() error { return errLinux }
