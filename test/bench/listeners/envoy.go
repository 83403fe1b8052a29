package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/openservicemesh/osm-operator/test/bench/machine"
)

// measurement is what one shape costs. Figures about one more service are means.
type measurement struct {
	resident, allocated    float64 // bytes
	ready                  time.Duration
	sent                   int // bytes
	oneBytes, oneResources int
	oneCPU, oneAck         time.Duration
	// What a service's first call takes, and the next, and memory thereafter.
	firstCall, nextCall time.Duration
	residentInUse       float64
	// What became of listeners with each service.
	added, modified, inPlace int
}

const bootstrap = `
admin: {address: {pipe: {path: "%[1]s/admin.sock"}}}
node: {id: bench, cluster: bench}
%[2]s
bootstrap_extensions:
- {name: envoy.bootstrap.internal_listener, typed_config: {"@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}}
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 1000}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: "%[1]s/xds.sock"}}}}]}]}
`

// load is what an Envoy is measured under.
type load struct {
	// services are there from the start, more are added one by one.
	services, more int
	workers        int
	// quiet is how long memory must not have moved before it is read.
	quiet time.Duration
}

// measure starts an Envoy with a mesh of services in a shape, waits until nothing moves
// any more, then adds services one by one.
func measure(ctx context.Context, binary string, s shape, l load) (measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "listeners")
	if err != nil {
		return measurement{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	roots, document, err := writeIdentity(dir)
	if err != nil {
		return measurement{}, err
	}
	m := newMesh(roots, document)
	if l.services > 0 {
		if m.ports, err = machine.FreePorts(ctx, called); err != nil {
			return measurement{}, err
		}
	}
	first, err := m.shaped(s, l.services)
	if err != nil {
		return measurement{}, err
	}
	control := newServer(first)
	control.onDemand = s.onDemand
	stop, err := serve(dir, control)
	if err != nil {
		return measurement{}, err
	}
	defer stop()
	p, err := start(ctx, binary, dir, s, l.workers)
	if err != nil {
		return measurement{}, err
	}
	defer p.stop()
	var out measurement
	if out.ready, err = p.waitReady(ctx, control); err != nil {
		return measurement{}, err
	}
	out.sent, _ = control.reset()
	if out.resident, out.allocated, err = p.settle(ctx, l.quiet); err != nil {
		return measurement{}, err
	}
	if err := p.grow(ctx, control, m, s, l, &out); err != nil {
		return measurement{}, err
	}
	err = p.use(ctx, m, l, &out)
	return out, err
}

// process is a running Envoy.
type process struct {
	cmd     *exec.Cmd
	admin   *http.Client
	started time.Time
	exited  chan struct{}
	log     *bytes.Buffer
}

// use calls some services, each twice, and measures what has become of the memory. Their
// endpoints refuse connections, so that the answer takes no longer than Envoy does.
func (p *process) use(ctx context.Context, m *mesh, l load, out *measurement) error {
	for _, port := range m.ports {
		for _, took := range []*time.Duration{&out.firstCall, &out.nextCall} {
			began := time.Now()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), http.NoBody)
			if err != nil {
				return err
			}
			r, err := http.DefaultClient.Do(request)
			if err != nil {
				return nil //nolint:nilerr // nothing listens in this shape
			}
			_ = r.Body.Close()
			*took += time.Since(began) / time.Duration(len(m.ports))
		}
	}
	var err error
	out.residentInUse, _, err = p.settle(ctx, l.quiet)
	return err
}

// shaped returns the resources of a mesh of count services.
func (m *mesh) shaped(s shape, count int) (resources, error) {
	m.grow(count)
	c, err := m.config()
	if err != nil {
		return nil, err
	}
	if count > 0 {
		s.apply(c)
		c.reach(m.ports)
	}
	return c.resources()
}

// grow adds services one by one and takes the means.
func (p *process) grow(ctx context.Context, control *server, m *mesh, s shape, l load, out *measurement) error {
	if l.services == 0 || l.more == 0 {
		return nil
	}
	before, err := p.listenerStats(ctx)
	if err != nil {
		return err
	}
	for i := range l.more {
		next, err := m.shaped(s, l.services+i+1)
		if err != nil {
			return err
		}
		before, err := machine.CPU(p.cmd.Process.Pid)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := control.replace(next); err != nil {
			return err
		}
		if err := p.wait(ctx, control.idle); err != nil {
			return err
		}
		out.oneAck += time.Since(began) / time.Duration(l.more)
		time.Sleep(200 * time.Millisecond) // workers follow the main thread
		after, err := machine.CPU(p.cmd.Process.Pid)
		if err != nil {
			return err
		}
		out.oneCPU += (after - before) / time.Duration(l.more)
	}
	out.oneBytes, out.oneResources = control.reset()
	out.oneBytes /= l.more
	out.oneResources /= l.more
	after, err := p.listenerStats(ctx)
	if err != nil {
		return err
	}
	out.added, out.modified, out.inPlace = (after[0]-before[0])/l.more, (after[1]-before[1])/l.more, (after[2]-before[2])/l.more
	return nil
}

// serve serves the stream on a socket in dir.
func serve(dir string, control *server) (stop func(), err error) {
	l, err := net.Listen("unix", filepath.Join(dir, "xds.sock"))
	if err != nil {
		return nil, err
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, control)
	go func() { _ = g.Serve(l) }()
	return g.Stop, nil
}

func start(ctx context.Context, binary, dir string, s shape, workers int) (*process, error) {
	stats := "deferred_stat_options: {enable_deferred_creation_stats: true}"
	if s.eager {
		stats = ""
	}
	if s.deferred {
		stats += "\ncluster_manager: {enable_deferred_cluster_creation: true}"
	}
	path := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, bootstrap, dir, stats), 0o600); err != nil {
		return nil, err
	}
	p := &process{exited: make(chan struct{}), log: &bytes.Buffer{}}
	p.cmd = exec.CommandContext(ctx, binary, "-c", path, "--concurrency", strconv.Itoa(workers), "--log-level", "error", "--disable-hot-restart")
	p.cmd.Stderr = p.log
	p.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
	}}}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	p.admin.CloseIdleConnections()
}

// wait waits until a condition holds.
func (p *process) wait(ctx context.Context, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), errors.New(p.log.String()))
		case <-p.exited:
			return fmt.Errorf("the proxy ended: %s", p.log.String())
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *process) waitReady(ctx context.Context, control *server) (time.Duration, error) {
	err := p.wait(ctx, func() (bool, error) {
		body, err := p.get(ctx, "/ready")
		if err != nil || body != "LIVE\n" {
			time.Sleep(5 * time.Millisecond)
			return false, nil //nolint:nilerr // not yet
		}
		return true, nil
	})
	took := time.Since(p.started)
	if err != nil {
		return took, err
	}
	return took, p.wait(ctx, control.idle)
}

func (p *process) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+path, http.NoBody)
	if err != nil {
		return "", err
	}
	r, err := p.admin.Do(request)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// settle waits until the memory in use has not moved by half a percent for a while, and
// returns resident and allocated bytes.
func (p *process) settle(ctx context.Context, quiet time.Duration) (resident, allocated float64, err error) {
	last, since := 0.0, time.Now()
	err = p.wait(ctx, func() (bool, error) {
		time.Sleep(quiet / 12)
		if allocated, err = p.allocated(ctx); err != nil {
			return false, err
		}
		if diff := allocated - last; diff > last/200 || diff < -last/200 {
			last, since = allocated, time.Now()
		}
		return time.Since(since) > quiet, nil
	})
	if err != nil {
		return 0, 0, err
	}
	memory, err := machine.MemoryOf(p.cmd.Process.Pid)
	return float64(memory.Resident), allocated, err
}

func (p *process) allocated(ctx context.Context) (float64, error) {
	body, err := p.get(ctx, "/memory")
	if err != nil {
		return 0, err
	}
	var memory struct {
		Allocated float64 `json:"allocated,string"`
	}
	return memory.Allocated, json.Unmarshal([]byte(body), &memory)
}

// listenerStats returns how many listeners were added, modified and updated in place.
func (p *process) listenerStats(ctx context.Context) (out [3]int, err error) {
	body, err := p.get(ctx, "/stats?filter=^listener_manager")
	if err != nil {
		return out, err
	}
	for i, n := range []string{"listener_added", "listener_modified", "listener_in_place_updated"} {
		_, rest, ok := strings.Cut(body, "listener_manager."+n+": ")
		if !ok {
			return out, fmt.Errorf("no statistic %s", n)
		}
		if _, err := fmt.Sscan(rest, &out[i]); err != nil {
			return out, err
		}
	}
	return out, nil
}
