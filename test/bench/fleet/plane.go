package main

import (
	"bufio"
	"context"
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
	"syscall"
	"time"

	"github.com/openservicemesh/osm-operator/test/bench/machine"
)

// plane is a control plane, in a process of its own.
type plane struct {
	binary, dir string
	trust       *trust
	ports       map[string]int
	cmd         *exec.Cmd
	log         *os.File
}

// newPlane prepares a control plane of the binary "osm".
func newPlane(ctx context.Context, binary, dir string, t *trust, w *world) (*plane, error) {
	p := &plane{binary: binary, dir: dir, trust: t, ports: map[string]int{}}
	names := []string{"xds", "report", "identity", "injector", "http", "debug", "validator"}
	ports, err := machine.FreePorts(ctx, len(names))
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		p.ports[name] = ports[i]
	}
	return p, os.WriteFile(filepath.Join(dir, "kubeconfig"), w.kubeconfig, 0o600)
}

// start starts it and returns when it is ready.
func (p *plane) start(ctx context.Context) error {
	args := []string{
		"control-plane", "--mesh", meshName, "--mesh-namespace", meshNamespace, "--revision", revision, "--pod-name", "osm-controller-1",
		"--osm-image", "osm:bench", "--envoy-image", "envoy:bench", "--log-level", "info", "--shutdown-delay", "100ms", "--drain-time", "1s",
		"--serving-dir", p.trust.serving, "--issuer-dir", p.trust.issuer, "--trust-dir", p.trust.roots,
	}
	for name, port := range p.ports {
		args = append(args, "--"+name+"-port", strconv.Itoa(port))
	}
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.dir, "control-plane.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), p.binary, args...)
	p.cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(p.dir, "kubeconfig"))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	return await(ctx, "the control plane is ready", func() bool {
		_, err := p.get(ctx, "http", "/health/ready")
		return err == nil
	})
}

// stop ends it, as Kubernetes does.
func (p *plane) stop() error {
	if p.cmd == nil || p.cmd.ProcessState != nil {
		return nil
	}
	defer p.log.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := p.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("the control plane ended with %w: see %s", err, p.log.Name())
	}
	return err
}

func (p *plane) pid() int { return p.cmd.Process.Pid }

// cpu returns the time that it has computed.
func (p *plane) cpu() (time.Duration, error) { return machine.CPU(p.pid()) }

func (p *plane) address(port string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.ports[port]))
}

func (p *plane) get(ctx context.Context, port, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address(port)+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, raw)
	}
	return raw, err
}

// metrics are the values of one reading, by name and labels.
type metrics map[string]float64

func (p *plane) metrics(ctx context.Context) (metrics, error) {
	raw, err := p.get(ctx, "http", "/metrics")
	if err != nil {
		return nil, err
	}
	return readMetrics(string(raw)), nil
}

func readMetrics(text string) metrics {
	out := metrics{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		cut := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || cut < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
			out[line[:cut]] = v
		}
	}
	return out
}

// at returns a point in time that a metric holds.
func (m metrics) at(name string) time.Time { return time.Unix(0, int64(m[name]*1e9)) }

// event is when the last event of a kind came.
func (m metrics) event(kind string) time.Time {
	return m.at(`osm_k8s_api_last_event_timestamp_seconds{type="` + kind + `"}`)
}

// sent is when the last response was handed to the network.
func (m metrics) sent() time.Time {
	var last time.Time
	for name := range m {
		if at := m.at(name); strings.HasPrefix(name, "osm_proxy_last_response_timestamp_seconds") && at.After(last) {
			last = at
		}
	}
	return last
}

// await waits for something, and says what it was if it does not come.
func await(ctx context.Context, what string, check func() bool) error {
	const patience = 5 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}
