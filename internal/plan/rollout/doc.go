// Package rollout is the state machine of an upgrade: where it was, what the spec wants
// and what was observed go in; where it is now and what has to be done come out. Time is
// an observation like any other. It is pure, forgets nothing that is not in State, and
// may be asked as often as one likes: what it says to do, and was done already, does no
// harm.
//
//	(nothing) ──> Preparing ──> AwaitingApproval ──> Moving <──> Soaking ──┐
//	                  │                 ^               │           │      │
//	                  │                 └───── next wave ───────────┼──────┤
//	                  │ deadline                        │ gate fails│      │ no wave is left
//	                  │                                 │  deadline │      ▼
//	                  ▼                                 ▼           │  Promoting
//	               Failed <──────────────────────── Undoing <───────┘      │
//	                  │                                                    ▼
//	                  └── spec changed back ──> RollingBack ──────────> Retiring ──> (nothing)
//
// RollingBack is reached from every phase in which there is a target.
package rollout
