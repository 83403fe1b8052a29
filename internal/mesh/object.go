package mesh

import "cmp"

// Older orders policy objects that speak of the same thing by who wins: the older, and
// of equals the one with the lesser key.
func Older[A, B any](a *Object[A], b *Object[B]) int {
	return cmp.Or(a.Created.Compare(b.Created), CompareKeys(a.Key, b.Key))
}
