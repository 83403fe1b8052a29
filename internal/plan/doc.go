// Package plan decides what should exist for a Mesh: which revision, which objects
// and in which order. Facts go in, a Plan comes out; it is pure, so that the same
// function can act, explain and preview. Objects themselves are drawn by package
// render.
package plan
