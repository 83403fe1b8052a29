package main

import (
	"context"
	"fmt"
	"time"
)

// connected reports whether the control plane has so many streams.
func (p *plane) connected(ctx context.Context, proxies int) bool {
	m, err := p.metrics(ctx)
	return err == nil && int(m["osm_proxy_connect_count"]) == proxies
}

// restart ends the control plane and starts it anew; all proxies come back with what they
// have.
func (s *subject) restart(ctx context.Context, setup string, p *plane) (row, error) {
	out := row{Setup: setup, What: "control plane restarts, all reconnect", Events: 1, Proxies: len(s.fleet.each())}
	before, streams := s.fleet.counts.tally(), s.fleet.counts.streams.Load()
	if err := p.stop(); err != nil {
		return out, err
	}
	began := time.Now()
	if err := p.start(ctx); err != nil {
		return out, err
	}
	ready := time.Now()
	if err := awaitSlowly(ctx, "all proxies are back", func() bool { return p.connected(ctx, out.Proxies) }); err != nil {
		return out, fmt.Errorf("%w: the last stream that ended: %w", err, s.fleet.lastEnd)
	}
	out.Took = time.Since(ready)
	if err := s.quiet(ctx, 500*time.Millisecond); err != nil {
		return out, err
	}
	var err error
	if out.CPU, err = p.cpu(); err != nil { // the process is new: all of it is of the restart
		return out, err
	}
	out.take(s.fleet.counts.tally().minus(before))
	out.Note = fmt.Sprintf("ready after %s; %d streams", ready.Sub(began).Round(10*time.Millisecond), s.fleet.counts.streams.Load()-streams)
	return out, nil
}

// storm has all proxies but those of the first group connect anew at once, with what they
// have, while an endpoint that concerns those who stay changes again and again.
func (s *subject) storm(ctx context.Context, setup string, w *world, p *plane) (back, fresh row, err error) {
	back = row{Setup: setup, What: "all but these reconnect at once, nothing changed", Events: 1}
	fresh = row{Setup: setup, What: "one endpoint, while they reconnect"}
	staying, leaving := s.fleet.firstGroup()
	back.Proxies, fresh.Proxies = len(leaving), len(staying)
	for _, one := range leaving {
		one.stop()
	}
	for _, one := range leaving {
		<-one.done
	}
	if err := awaitSlowly(ctx, "those who go are gone", func() bool { return p.connected(ctx, len(staying)) }); err != nil {
		return back, fresh, err
	}
	before, ended := s.fleet.counts.tally(), s.fleet.counts.ended.Load()
	cpu, err := s.cpu()
	if err != nil {
		return back, fresh, err
	}
	began := time.Now()
	for _, one := range leaving {
		one.done = make(chan struct{})
		one.start(ctx)
	}
	var acked, sent, write []time.Duration
	for n := 0; ; n++ {
		h, err := s.toAll(ctx, w.endpoint(1), n, staying)
		if err != nil {
			return back, fresh, err
		}
		acked, sent, write = append(acked, h.last.Sub(h.event)), append(sent, h.sent.Sub(h.event)), append(write, h.event.Sub(h.began))
		back.Took = time.Since(began)
		if p.connected(ctx, len(leaving)+len(staying)) {
			break
		}
	}
	fresh.Events, fresh.Acked, fresh.Sent, fresh.Write = len(acked), spreadOf(acked), spreadOf(sent), spreadOf(write)
	fresh.Note = fmt.Sprintf("sent p99 %s, max %s", duration(fresh.Sent.P99), duration(fresh.Sent.Max))
	if err := s.quiet(ctx, 300*time.Millisecond); err != nil {
		return back, fresh, err
	}
	after, err := s.cpu()
	if err != nil {
		return back, fresh, err
	}
	back.CPU = after - cpu
	got := s.fleet.counts.tally().minus(before)
	mine := int64(len(acked) * len(staying))
	back.take(tally{responses: got.responses - mine, resources: got.resources - mine, bytes: got.bytes})
	back.Note = fmt.Sprintf("%d streams ended; CPU and bytes are with the changes beside it", s.fleet.counts.ended.Load()-ended)
	return back, fresh, nil
}

// firstGroup returns the proxies of the first group, and all others.
func (f *fleet) firstGroup() (members, others []*proxy) {
	group := map[string]bool{}
	for i := range perGroup {
		group[namespaceOf(i)+"/"+serviceName(i)] = true
	}
	for one := range f.each() {
		if group[one.pod.namespace+"/"+one.pod.account] {
			members = append(members, one)
		} else {
			others = append(others, one)
		}
	}
	return members, others
}

// toAll does something that concerns these proxies, and returns when all of them have
// acknowledged it.
func (s *subject) toAll(ctx context.Context, a action, n int, proxies []*proxy) (happened, error) {
	h := happened{began: time.Now()}
	if err := a.do(ctx, n); err != nil {
		return h, err
	}
	err := await(ctx, a.name+" was acknowledged", func() bool {
		for _, one := range proxies {
			at := time.Unix(0, one.lastAck.Load())
			if at.Before(h.began) {
				return false
			}
			if at.After(h.last) {
				h.last = at
			}
		}
		return true
	})
	if err == nil {
		h.event, h.sent, err = s.stamps(ctx, a.kind)
	}
	return h, err
}

func (r *row) take(t tally) {
	r.Responses, r.Resources, r.Bytes = float64(t.responses), float64(t.resources), float64(t.bytes)
}

// awaitSlowly is for checks that cost something.
func awaitSlowly(ctx context.Context, what string, check func() bool) error {
	return await(ctx, what, func() bool {
		time.Sleep(100 * time.Millisecond)
		return check()
	})
}
