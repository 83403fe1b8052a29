package lineage

// Graph is a set of tables and derived values that are read by one another. The zero
// value is empty. It is not safe for concurrent use.
type Graph struct {
	// revision numbers the states of the tables.
	revision uint64
	// making is what is being made, the innermost last.
	making []*making
}

// making is a value that is being made, and what it has read by now.
type making struct {
	of    *node
	reads []*node
}

// Advance begins a new state of the tables. Every change of tables that is to be seen
// at once is made between Advance and the next reading.
func (g *Graph) Advance() { g.revision++ }

// node is one entry of a table, or one derived value.
type node struct {
	// users are the derived values that have read it, reads what it has read itself, in
	// the order in which it did.
	users map[*node]struct{}
	reads []*node
	// seen is the making that read it last, so that it is noted once; kept is the last of
	// those that were done with it among what they have read.
	seen, kept *making
	// suspect says that something it was made of may be another; so are all its users.
	suspect bool
	// changed is the revision in which the value became another, checked the last one
	// in which it is known to be as it should.
	changed, checked uint64
	// remake makes the value anew and reports whether it is another; nil for an entry.
	remake func() bool
	// warn, if there is one, is told once the value is suspect.
	warn func()
	// forget takes the value out once nobody reads it any more; nil for what stays.
	forget func()
}

// read notes that what is being made depends on a node.
func (g *Graph) read(n *node) {
	if len(g.making) == 0 {
		return
	}
	by := g.making[len(g.making)-1]
	if n.seen == by {
		return
	}
	n.seen = by
	by.reads = append(by.reads, n)
	// At once, so that n is not forgotten when another of its users lets go of it.
	if n.users == nil {
		n.users = map[*node]struct{}{}
	}
	n.users[by.of] = struct{}{}
}

// refresh makes a derived value anew if it must.
func (g *Graph) refresh(n *node) {
	if !n.suspect {
		return
	}
	if n.checked > 0 && !g.outdated(n) {
		n.suspect, n.checked = false, g.revision
		return
	}
	m := &making{of: n}
	g.making = append(g.making, m)
	other := n.remake()
	g.making = g.making[:len(g.making)-1]
	if other || n.checked == 0 {
		n.changed = g.revision
	}
	n.suspect, n.checked = false, g.revision
	before := n.reads
	n.reads = m.reads
	for _, r := range n.reads {
		r.kept = m
	}
	for _, r := range before {
		if r.kept != m {
			r.leave(n)
		}
	}
}

// outdated reports whether anything that a value has read is another. What was read
// first is looked at first: what was read later may have been read because of it.
func (g *Graph) outdated(n *node) bool {
	for _, r := range n.reads {
		g.refresh(r)
		if r.changed > n.checked {
			return true
		}
	}
	return false
}

// suspectUsers marks all that was made of a node, however remotely.
func (n *node) suspectUsers() {
	for u := range n.users {
		if u.suspect {
			continue
		}
		u.suspect = true
		if u.warn != nil {
			u.warn()
		}
		u.suspectUsers()
	}
}

// leave notes that a value reads a node no more.
func (n *node) leave(user *node) {
	delete(n.users, user)
	if len(n.users) == 0 && n.forget != nil {
		n.forget()
		n.abandon()
	}
}

// abandon lets go of what a value has read.
func (n *node) abandon() {
	reads := n.reads
	n.reads = nil
	for _, r := range reads {
		r.leave(n)
	}
}
