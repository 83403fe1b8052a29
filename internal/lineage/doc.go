// Package lineage keeps values that are made of other values, knows of each what it was
// made of, and makes it anew only when one of those is another:
//
//	Table ──read by──> Derived ──read by──> Derived
//	  │ an entry that differs makes all that was made of it suspect
//	  └ what is suspect is made anew when it is asked for, unless all that it was made
//	    of turned out to be the same; if it comes out the same, it stays as it was, and
//	    what was made of it need not be made again
//
// Tables of facts go in; derived values come out, the same as if all of them were made
// from nothing. Nobody says what depends on what: to read is to depend. So a function
// that makes a value must read nothing that may change but tables and derived values of
// its Graph, and must not keep what it has read. The package knows nothing of meshes.
package lineage
