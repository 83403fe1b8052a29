package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// subject is a server that is measured.
type subject struct {
	fleet *fleet
	cpu   func() (time.Duration, error)
	// stamps returns when the last event of a kind reached the server, and when it was
	// done with handing out responses; zero where that is not known.
	stamps func(ctx context.Context, kind string) (event, sent time.Time, err error)
	// idle is what it computes a second while nothing happens.
	idle float64
}

// row is a line of the table.
type row struct {
	Setup, What string
	// Events is how often it was done; all else is for one of them.
	Events int
	// Proxies is how many proxies it concerned: for how many the CPU is.
	Proxies            int
	CPU                time.Duration
	Responses          float64
	Resources          float64
	Bytes              float64
	Write, Sent, Acked spread
	// Took is how long the whole took, where it is one that takes long.
	Took time.Duration
	Note string
}

// spread are the middle, the 99th of a hundred, and the largest.
type spread struct{ P50, P99, Max time.Duration }

func spreadOf(all []time.Duration) spread {
	if len(all) == 0 {
		return spread{}
	}
	slices.Sort(all)
	at := func(part float64) time.Duration { return all[min(len(all)-1, int(part*float64(len(all))))] }
	return spread{at(0.5), at(0.99), all[len(all)-1]}
}

// action is something that happens again and again.
type action struct {
	name string
	// kind is the kind of object that is written.
	kind string
	// do writes it, for the nth time; undo, if there is one, takes it back, unmeasured.
	do, undo func(ctx context.Context, n int) error
	times    int
	// echoes says that the control plane writes a status to the object, so that its last
	// event is not the first: then the clock starts with the write.
	echoes bool
}

// series does something so many times, one after another, and measures it. How many
// responses it makes is learned first; a series in which the number differs says so.
func (s *subject) series(ctx context.Context, setup string, a action) (row, error) {
	out := row{Setup: setup, What: a.name, Events: a.times}
	// What the last series left is not of this one.
	if err := s.quiet(ctx, time.Second); err != nil {
		return out, err
	}
	wanted, err := s.learn(ctx, a)
	if err != nil {
		return out, err
	}
	var write, sent, acked []time.Duration
	total := tally{}
	var cpu time.Duration
	for n := range a.times {
		one, err := s.once(ctx, a, n, wanted[n%2])
		if err != nil {
			return out, fmt.Errorf("%s: %w", a.name, err)
		}
		cpu += one.cpu
		total = total.plus(one.tally)
		if !one.event.IsZero() {
			write = append(write, one.event.Sub(one.began))
		}
		if one.responses > 0 {
			acked = append(acked, one.last.Sub(one.from()))
			if !one.sent.IsZero() {
				sent = append(sent, one.sent.Sub(one.from()))
			}
		}
		out.Proxies = max(out.Proxies, one.proxies)
		if err := s.takeBack(ctx, a, n); err != nil {
			return out, err
		}
	}
	times := float64(a.times)
	out.CPU = cpu / time.Duration(a.times)
	out.Responses, out.Resources, out.Bytes = float64(total.responses)/times, float64(total.resources)/times, float64(total.bytes)/times
	out.Write, out.Sent, out.Acked = spreadOf(write), spreadOf(sent), spreadOf(acked)
	if a.echoes {
		out.Note = "times from the API write"
	}
	return out, nil
}

// learn returns how many responses something makes when it is done, and when it is done
// the other way round.
func (s *subject) learn(ctx context.Context, a action) ([2]int64, error) {
	var wanted [2]int64
	for n := range wanted {
		before := s.fleet.counts.responses.Load()
		if err := a.do(ctx, n); err != nil {
			return wanted, fmt.Errorf("%s: %w", a.name, err)
		}
		if err := s.quiet(ctx, 400*time.Millisecond); err != nil {
			return wanted, err
		}
		wanted[n] = s.fleet.counts.responses.Load() - before
		if err := s.takeBack(ctx, a, n); err != nil {
			return wanted, err
		}
	}
	return wanted, nil
}

func (s *subject) takeBack(ctx context.Context, a action, n int) error {
	if a.undo == nil {
		return nil
	}
	if err := a.undo(ctx, n); err != nil {
		return fmt.Errorf("%s: taking it back: %w", a.name, err)
	}
	return s.quiet(ctx, 150*time.Millisecond)
}

// tally is what a fleet got within a time.
type tally struct{ responses, resources, removed, bytes int64 }

func (c *counts) tally() tally {
	return tally{c.responses.Load(), c.resources.Load(), c.removed.Load(), c.bytes.Load()}
}

func (t tally) plus(u tally) tally {
	return tally{t.responses + u.responses, t.resources + u.resources, t.removed + u.removed, t.bytes + u.bytes}
}

func (t tally) minus(u tally) tally {
	return tally{t.responses - u.responses, t.resources - u.resources, t.removed - u.removed, t.bytes - u.bytes}
}

// happened is one event and what came of it.
type happened struct {
	tally
	began, event, sent, last time.Time
	cpu                      time.Duration
	proxies                  int
}

// from is when the clock of convergence starts.
func (h happened) from() time.Time {
	if h.event.IsZero() {
		return h.began
	}
	return h.event
}

// once does something and waits until so many responses were acknowledged.
func (s *subject) once(ctx context.Context, a action, n int, wanted int64) (happened, error) {
	var h happened
	before := s.fleet.counts.tally()
	cpu, err := s.cpu()
	if err != nil {
		return h, err
	}
	h.began = time.Now()
	if err := a.do(ctx, n); err != nil {
		return h, err
	}
	// What the server does with the last ACKs, and what it does for nothing, is to be
	// within the time that is measured.
	rest := 25 * time.Millisecond
	if wanted == 0 {
		rest = 100 * time.Millisecond
	}
	if err := s.acknowledged(ctx, a.name, before.responses, wanted); err != nil {
		return h, err
	}
	time.Sleep(rest)
	after, err := s.cpu()
	if err != nil {
		return h, err
	}
	h.cpu = max(0, after-cpu-time.Duration(s.idle*float64(time.Since(h.began))))
	h.tally = s.fleet.counts.tally().minus(before)
	if h.event, h.sent, err = s.stamps(ctx, a.kind); err != nil {
		return h, err
	}
	if a.echoes {
		h.event = time.Time{}
	}
	for p := range s.fleet.each() {
		if at := time.Unix(0, p.lastAck.Load()); at.After(h.began) {
			h.proxies++
			if at.After(h.last) {
				h.last = at
			}
		}
	}
	return h, nil
}

// acknowledged returns when so many responses were, or fewer and then none for a while:
// what comes at about the same time may be in one response or in two, and what was
// counted at first may have been of another change.
func (s *subject) acknowledged(ctx context.Context, name string, before, wanted int64) error {
	const enough = 1500 * time.Millisecond
	last, since := before, time.Now()
	err := await(ctx, name+" was acknowledged by all", func() bool {
		now := s.fleet.counts.responses.Load()
		if now != last {
			last, since = now, time.Now()
		}
		return now-before >= wanted || time.Since(since) > enough && (now > before || time.Since(since) > 4*enough)
	})
	if err != nil {
		return fmt.Errorf("%w: %d of %d responses came", err, last-before, wanted)
	}
	return nil
}

// quiet returns when nothing came for a time.
func (s *subject) quiet(ctx context.Context, long time.Duration) error {
	last, since := s.fleet.counts.responses.Load(), time.Now()
	return await(ctx, "all is quiet", func() bool {
		if now := s.fleet.counts.responses.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > long
	})
}

// rest measures what the server computes while nothing happens.
func (s *subject) rest(ctx context.Context) error {
	const long = 3 * time.Second
	if err := s.quiet(ctx, time.Second); err != nil {
		return err
	}
	before, err := s.cpu()
	if err != nil {
		return err
	}
	time.Sleep(long)
	after, err := s.cpu()
	s.idle = (after - before).Seconds() / long.Seconds()
	return err
}

// connect has proxies of these pods connect, all at once, and waits until each has all
// that it asks for.
func (s *subject) connect(ctx context.Context, setup, what string, pods []podRef) (row, error) {
	out := row{Setup: setup, What: what, Events: 1, Proxies: len(pods)}
	fleet := make([]*proxy, 0, len(pods))
	for _, pod := range pods {
		certificate, err := s.fleet.trust.workload(ctx, pod)
		if err != nil {
			return out, err
		}
		fleet = append(fleet, s.fleet.make(pod, certificate))
	}
	before, ended := s.fleet.counts.tally(), s.fleet.counts.ended.Load()
	cpu, err := s.cpu()
	if err != nil {
		return out, err
	}
	already, began := s.fleet.insync(), time.Now()
	for _, p := range fleet {
		p.start(ctx)
	}
	if err := await(ctx, "all proxies have everything", func() bool { return s.fleet.insync() >= already+len(pods) }); err != nil {
		return out, fmt.Errorf("%w: %d of %d have; the last stream that ended: %w", err, s.fleet.insync(), already+len(pods), s.fleet.lastEnd)
	}
	out.Took = time.Since(began)
	if err := s.quiet(ctx, 200*time.Millisecond); err != nil {
		return out, err
	}
	after, err := s.cpu()
	if err != nil {
		return out, err
	}
	got := s.fleet.counts.tally().minus(before)
	out.CPU, out.Responses, out.Resources, out.Bytes = after-cpu, float64(got.responses), float64(got.resources), float64(got.bytes)
	out.Note = fmt.Sprintf("%d streams ended", s.fleet.counts.ended.Load()-ended)
	return out, nil
}
