package inject

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

// Ports of the sidecar that answer for the application. The first four are Open
// Service Mesh's; those from firstFreePort on are given out where one port cannot
// serve two containers.
const (
	livenessPort  = 15901
	readinessPort = 15902
	startupPort   = 15903
	tcpCheckPort  = 15904
	hookPort      = 15906
	firstFreePort = 15910
	lastFreePort  = 15999
)

// rewriter turns the kubelet's probes and hooks to ports of the sidecar that need no
// client certificate, and collects what the sidecar must do there. The
// application's own answer decides, always.
type rewriter struct {
	probes []bootstrap.Probe
	next   uint16
	// taken are paths by port: a path serves one container.
	taken map[uint16]map[string]bool
}

func newRewriter() *rewriter {
	return &rewriter{next: firstFreePort, taken: map[uint16]map[string]bool{}}
}

// container rewrites the probes and hooks of one container.
func (r *rewriter) container(c *corev1.Container) error {
	for _, p := range []struct {
		probe *corev1.Probe
		port  uint16
		path  string
	}{
		{c.LivenessProbe, livenessPort, "/osm-liveness-probe"},
		{c.ReadinessProbe, readinessPort, "/osm-readiness-probe"},
		{c.StartupProbe, startupPort, "/osm-startup-probe"},
	} {
		if p.probe == nil {
			continue
		}
		if err := r.probe(c, p.probe, p.port, p.path); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	if c.Lifecycle == nil {
		return nil
	}
	for name, hook := range map[string]*corev1.LifecycleHandler{"post-start": c.Lifecycle.PostStart, "pre-stop": c.Lifecycle.PreStop} {
		if hook == nil || hook.HTTPGet == nil || hook.HTTPGet.Host != "" {
			continue
		}
		if err := r.http(c, hook.HTTPGet, hookPort, "/osm-lifecycle/"+name, 0); err != nil {
			return fmt.Errorf("container %s: %s hook: %w", c.Name, name, err)
		}
	}
	return nil
}

func (r *rewriter) probe(c *corev1.Container, p *corev1.Probe, port uint16, path string) error {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.HTTPGet != nil:
		if p.HTTPGet.Host != "" {
			return nil
		}
		return r.http(c, p.HTTPGet, port, path, timeout)
	case p.TCPSocket != nil:
		if p.TCPSocket.Host != "" {
			return nil
		}
		return r.tcp(c, p, timeout)
	case p.GRPC != nil:
		listen, err := r.pass(uint16(p.GRPC.Port))
		if err != nil {
			return err
		}
		p.GRPC.Port = int32(listen)
	}
	return nil
}

// http turns an HTTP GET to a path of the sidecar's; TLS is passed through unopened.
func (r *rewriter) http(c *corev1.Container, get *corev1.HTTPGetAction, port uint16, path string, timeout time.Duration) error {
	target, err := portOf(c, get.Port)
	if err != nil {
		return err
	}
	if get.Scheme == corev1.URISchemeHTTPS {
		listen, err := r.pass(target)
		if err != nil {
			return err
		}
		get.Port = intstr.FromInt32(int32(listen))
		return nil
	}
	if r.taken[port][path] {
		path += "/" + c.Name
	}
	r.take(port, path)
	targetPath := get.Path
	if targetPath == "" || targetPath[0] != '/' {
		targetPath = "/" + targetPath
	}
	r.probes = append(r.probes, bootstrap.Probe{
		ListenPort: port, Path: path, Kind: bootstrap.ProbeHTTP, TargetPort: target, TargetPath: targetPath, Timeout: timeout,
	})
	get.Port, get.Path = intstr.FromInt32(int32(port)), path
	return nil
}

// tcp turns a TCP probe into a question that the sidecar answers by what its own
// check of the port found: a connection to the sidecar would always succeed.
func (r *rewriter) tcp(c *corev1.Container, p *corev1.Probe, timeout time.Duration) error {
	target, err := portOf(c, p.TCPSocket.Port)
	if err != nil {
		return err
	}
	path := "/osm-healthcheck/" + strconv.Itoa(int(target))
	if !r.taken[tcpCheckPort][path] {
		r.take(tcpCheckPort, path)
		r.probes = append(r.probes, bootstrap.Probe{
			ListenPort: tcpCheckPort, Path: path, Kind: bootstrap.ProbeTCPCheck, TargetPort: target, Timeout: timeout,
		})
	}
	p.TCPSocket = nil
	p.HTTPGet = &corev1.HTTPGetAction{
		Path: path, Port: intstr.FromInt32(tcpCheckPort), Scheme: corev1.URISchemeHTTP,
		HTTPHeaders: []corev1.HTTPHeader{{Name: "Original-Tcp-Port", Value: strconv.Itoa(int(target))}},
	}
	return nil
}

// pass returns a port of the sidecar whose bytes go to the target unopened.
func (r *rewriter) pass(target uint16) (uint16, error) {
	if r.next > lastFreePort {
		return 0, fmt.Errorf("more than %d probes that need a port of their own", lastFreePort-firstFreePort+1)
	}
	for _, p := range r.probes {
		if p.Kind == bootstrap.ProbeTCPPass && p.TargetPort == target {
			return p.ListenPort, nil
		}
	}
	port := r.next
	r.next++
	r.probes = append(r.probes, bootstrap.Probe{ListenPort: port, Kind: bootstrap.ProbeTCPPass, TargetPort: target})
	return port, nil
}

func (r *rewriter) take(port uint16, path string) {
	if r.taken[port] == nil {
		r.taken[port] = map[string]bool{}
	}
	r.taken[port][path] = true
}

// portOf resolves a port, by number or by name among the container's ports.
func portOf(c *corev1.Container, port intstr.IntOrString) (uint16, error) {
	if port.Type == intstr.Int {
		if port.IntVal < 1 || port.IntVal > 65535 {
			return 0, fmt.Errorf("%d is not a port", port.IntVal)
		}
		return uint16(port.IntVal), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return uint16(p.ContainerPort), nil
		}
	}
	return 0, fmt.Errorf("no port of the container is called %q", port.StrVal)
}
