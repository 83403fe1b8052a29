package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/internal/xds/resource"
	"github.com/openservicemesh/osm-operator/test/bench/machine"
)

// bench collects the figures.
type bench struct {
	options
	dir    string
	rows   []row
	points []point
}

// mesh is a mesh that is measured.
type mesh struct {
	*subject
	world *world
	plane *plane
	// before is the memory at rest before the last proxies connected, came how many these are.
	before machine.Memory
	came   int
}

// start makes a mesh of so many services, with no proxy connected.
func (b *bench) start(ctx context.Context, name string, permissive bool, services int) (*mesh, func(), error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, err
	}
	t, err := newTrust(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	w, err := startWorld(ctx, permissive)
	if err != nil {
		return nil, nil, err
	}
	stop := func() { _ = w.stop() }
	b.say("writing %d services with %d pods", services, services*perService)
	if err := w.grow(ctx, services); err != nil {
		stop()
		return nil, nil, err
	}
	p, err := newPlane(ctx, b.osm, dir, t, w)
	if err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	m := &mesh{world: w, plane: p, subject: &subject{
		fleet: newFleet(t, p.address("xds")), cpu: p.cpu,
		stamps: func(ctx context.Context, kind string) (event, sent time.Time, err error) {
			read, err := p.metrics(ctx)
			return read.event(kind), read.sent(), err
		},
	}}
	return m, func() { m.fleet.stopAll(); _ = p.stop(); stop() }, nil
}

func (*bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (b *bench) add(rows ...row) {
	for _, r := range rows {
		b.say("%s", r)
	}
	b.rows = append(b.rows, rows...)
}

// permissive measures a mesh in which everybody may call everybody, the caches of
// go-control-plane with the same resources, and what needs no proxies.
func (b *bench) permissive(ctx context.Context) error {
	setup := fmt.Sprintf("permissive, %d services, %d proxies", b.services, b.proxies)
	m, stop, err := b.start(ctx, "permissive", true, b.services)
	if err != nil {
		return err
	}
	defer stop()
	if err := m.settle(ctx); err != nil {
		return err
	}
	resources, err := m.capture(ctx)
	if err != nil {
		return err
	}
	if err := b.connecting(ctx, setup, m, b.proxies); err != nil {
		return err
	}
	w := m.world
	if err := b.serieses(ctx, setup, m.subject, w.endpoint(b.times), w.newService(b.few()), w.weights(b.few()), w.egress(b.few()), w.nothing(b.few())); err != nil {
		return err
	}
	if err := b.again(ctx, setup, m); err != nil {
		return err
	}
	for _, atOnce := range []int{1, 8} {
		r, err := injections(ctx, m.plane, m.fleet.trust, 10*b.times, atOnce)
		if err != nil {
			return err
		}
		b.add(r)
	}
	signed, err := signatures(ctx, m.fleet.trust, 40*b.times)
	if err != nil {
		return err
	}
	pods := w.pick(b.proxies, nil)
	m.fleet.stopAll()
	_ = m.plane.stop()
	for _, kind := range []string{"snapshot", "linear"} {
		if err := b.baselines(ctx, kind, m.fleet.trust, resources, pods); err != nil {
			return err
		}
	}
	b.add(signed)
	return nil
}

func (b *bench) few() int { return max(4, b.times/5) }

// settle waits until the control plane has nothing to do.
func (m *mesh) settle(ctx context.Context) error {
	time.Sleep(time.Second)
	return m.rest(ctx)
}

// connecting has proxies connect and measures that and their memory.
func (b *bench) connecting(ctx context.Context, setup string, m *mesh, proxies int) error {
	before, err := m.rested(ctx, 3*time.Second)
	if err != nil {
		return err
	}
	m.before = before
	stopProfile := b.profile(ctx, m.plane, "connect-"+setup)
	connected, err := m.connect(ctx, setup, "all proxies connect", m.world.pick(proxies, m.fleet.each()))
	if err != nil {
		return err
	}
	m.came = connected.Proxies
	stopProfile()
	now, err := machine.MemoryOf(m.plane.pid())
	if err != nil {
		return err
	}
	connected.Note += grown(before, now, connected.Proxies)
	b.add(connected)
	return m.rest(ctx)
}

// grown tells of memory before and after so many proxies connected.
func grown(before, now machine.Memory, proxies int) string {
	return fmt.Sprintf("; resident %s before, %s after, %s at the most: %s a proxy", bytesText(float64(before.Resident)),
		bytesText(float64(now.Resident)), bytesText(float64(now.Peak)), bytesText(float64(now.Resident-before.Resident)/float64(proxies)))
}

// rested returns the control plane's memory once what nobody needs is collected, which Go does
// every two minutes by itself, and given back: when it has not become less for a while.
func (m *mesh) rested(ctx context.Context, enough time.Duration) (machine.Memory, error) {
	var least machine.Memory
	if _, err := m.plane.get(ctx, "debug", "/debug/pprof/heap?gc=1"); err != nil {
		return least, err
	}
	var since time.Time
	err := awaitSlowly(ctx, "memory is given back", func() bool {
		now, err := machine.MemoryOf(m.plane.pid())
		if err == nil && (since.IsZero() || now.Resident < least.Resident-1<<20) {
			least, since = now, time.Now()
		}
		return !since.IsZero() && time.Since(since) > enough
	})
	return least, err
}

// resting measures the memory at rest with all proxies connected.
func (b *bench) resting(ctx context.Context, setup string, m *mesh) error {
	now, err := m.rested(ctx, 15*time.Second)
	if err != nil {
		return err
	}
	b.add(row{
		Setup: setup, What: "nothing, with all connected", Events: 1,
		Note: fmt.Sprintf("resident %s, of which %s are the program and other files; %s a proxy of those that came last",
			bytesText(float64(now.Resident)), bytesText(float64(now.File)), bytesText(float64(now.Resident-m.before.Resident)/float64(m.came))),
	})
	return nil
}

func (b *bench) serieses(ctx context.Context, setup string, s *subject, actions ...action) error {
	for _, a := range actions {
		r, err := s.series(ctx, setup, a)
		if err != nil {
			return err
		}
		b.add(r)
	}
	return nil
}

// capture returns all that the proxies of one class are sent.
func (m *mesh) capture(ctx context.Context) ([]given, error) {
	f := newFleet(m.fleet.trust, m.plane.address("xds"))
	f.captured = map[resourceID][]byte{}
	if err := f.add(ctx, m.world.pods[0][0]); err != nil {
		return nil, err
	}
	if err := await(ctx, "one proxy has everything", func() bool { return f.insync() == 1 }); err != nil {
		return nil, fmt.Errorf("%w: %w", err, f.lastEnd)
	}
	f.stopAll()
	var out []given
	for id, body := range f.captured {
		out = append(out, given{TypeURL: kinds()[id.kind], Name: id.name, Body: body})
	}
	return out, nil
}

// baselines measures one of go-control-plane's caches.
func (b *bench) baselines(ctx context.Context, kind string, t *trust, resources []given, pods []podRef) error {
	setup := map[string]string{"snapshot": "SnapshotCache, one snapshot for all", "linear": "LinearCache of each type"}[kind]
	server, err := runBaseline(ctx, kind, b.dir, t, resources)
	if err != nil {
		return err
	}
	defer server.stop()
	f := newFleet(t, server.address)
	defer f.stopAll()
	s := server.subject(f)
	before, err := machine.MemoryOf(server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	connected, err := s.connect(ctx, setup, "all proxies connect", pods)
	if err != nil {
		return err
	}
	now, err := machine.MemoryOf(server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	connected.Note += grown(before, now, len(pods))
	b.add(connected)
	assignment := firstAssignment(resources)
	err = b.serieses(ctx, setup, s,
		action{name: "one endpoint", times: b.few(), do: func(_ context.Context, n int) error {
			return server.tell(order{Assignment: assignment, Ready: n%2 == 1})
		}},
		action{name: "the same is set again", times: b.few(), do: func(context.Context, int) error { return server.tell(order{}) }})
	if err != nil {
		return err
	}
	return nil
}

// firstAssignment is that of the first service.
func firstAssignment(resources []given) string {
	var names []string
	for _, r := range resources {
		if r.TypeURL == resource.EndpointType && strings.Contains(r.Name, "/"+serviceName(0)+"|") {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return slices.Concat(names, []string{""})[0]
}

// enforced measures a mesh that grows, in which an endpoint concerns always the same
// number of proxies, and once it has grown everything else.
func (b *bench) enforced(ctx context.Context, sizes []int, times int) error {
	m, stop, err := b.start(ctx, "enforced", false, sizes[0])
	if err != nil {
		return err
	}
	defer stop()
	w := m.world
	setup := ""
	for _, services := range sizes {
		setup = fmt.Sprintf("enforced, %d services, %d proxies", services, services*perService)
		if services > w.services {
			b.say("growing to %d services", services)
			if err := w.grow(ctx, services); err != nil {
				return err
			}
		}
		if err := m.settle(ctx); err != nil {
			return err
		}
		if err := b.connecting(ctx, setup, m, services*perService); err != nil {
			return err
		}
		r, err := m.series(ctx, setup, w.endpoint(times))
		if err != nil {
			return err
		}
		b.add(r)
		b.points = append(b.points, point{Services: services, Proxies: services * perService, CPU: r.CPU, Acked: r.Acked.P50, Concerned: r.Proxies})
	}
	few := max(4, times/5)
	if err := b.serieses(ctx, setup, m.subject, w.newService(few), w.targets(few), w.weights(few), w.egress(4), w.nothing(few)); err != nil {
		return err
	}
	rolled, err := m.rollOut(ctx, setup, w, min(500, w.services*perService))
	if err != nil {
		return err
	}
	b.add(rolled)
	back, fresh, err := m.storm(ctx, setup, w, m.plane)
	if err != nil {
		return err
	}
	b.add(back, fresh)
	stopProfile := b.profile(ctx, m.plane, "heap")
	stopProfile()
	return b.again(ctx, setup, m)
}

// again measures the control plane at rest, and when it starts anew.
func (b *bench) again(ctx context.Context, setup string, m *mesh) error {
	if err := b.resting(ctx, setup, m); err != nil {
		return err
	}
	restarted, err := m.restart(ctx, setup, m.plane)
	if err != nil {
		return err
	}
	b.add(restarted)
	return nil
}

// profile takes a CPU profile until the function is called that it returns, and then one
// of the heap, if profiles are wanted.
func (b *bench) profile(ctx context.Context, p *plane, name string) func() {
	if b.profiles == "" {
		return func() {}
	}
	name = strings.NewReplacer(" ", "-", ",", "").Replace(name)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.save(ctx, p, "/debug/pprof/profile?seconds=8", name+".cpu")
	}()
	time.Sleep(200 * time.Millisecond)
	return func() {
		<-done
		b.save(ctx, p, "/debug/pprof/heap?gc=1", name+".heap")
	}
}

func (b *bench) save(ctx context.Context, p *plane, path, name string) {
	raw, err := p.get(ctx, "debug", path)
	if err == nil {
		err = os.MkdirAll(b.profiles, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(b.profiles, name), raw, 0o600)
	}
	if err != nil {
		b.say("no profile %s: %v", name, err)
	}
}
