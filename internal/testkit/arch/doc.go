// Package arch tests the code itself: which package may import which, that every
// package says what it is for, how long files and functions may be, what the root
// of the repository may hold.
//
// The source tree comes in, test failures come out. It holds tests only and nothing
// imports it. A rule about a package that does not exist yet holds from the commit
// that adds the package.
package arch
