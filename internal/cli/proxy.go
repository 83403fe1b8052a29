package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// adminPort is where a sidecar's own interface listens, on loopback only.
const adminPort = 15000

func newProxy(env *Env) *cobra.Command {
	c := &cobra.Command{Use: "proxy", Short: "Look into the sidecar of a pod", Args: cobra.NoArgs}
	c.AddCommand(newProxyGet(env))
	return c
}

func newProxyGet(env *Env) *cobra.Command {
	c := &cobra.Command{
		Use: "get QUERY POD", Short: "Print what the sidecar of a pod answers to a query",
		Long: "Print what the sidecar of a pod answers to a query of Envoy's admin interface:\nconfig_dump, clusters, listeners, stats, certs, ready and others.",
		Args: cobra.ExactArgs(2),
	}
	namespace := c.Flags().StringP("namespace", "n", "default", "namespace of the pod")
	file := c.Flags().StringP("file", "f", "", "file to write to; standard output when absent")
	localPort := c.Flags().Uint16P("local-port", "p", 0, "local port to forward from; a free one when absent")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := env.admin(cmd.Context(), client.ObjectKey{Namespace: *namespace, Name: args[1]}, *localPort, args[0])
		if err != nil {
			return err
		}
		if *file == "" {
			_, err = env.Out.Write(body)
			return err
		}
		return os.WriteFile(*file, body, 0o600)
	}
	return c
}

// admin asks the admin interface of a pod's sidecar.
func (e *Env) admin(ctx context.Context, pod client.ObjectKey, localPort uint16, query string) ([]byte, error) {
	cluster, err := e.Client()
	if err != nil {
		return nil, err
	}
	var p corev1.Pod
	if err := cluster.Get(ctx, pod, &p); err != nil {
		return nil, fmt.Errorf("reading pod %s: %w", pod, err)
	}
	if !hasSidecar(&p) {
		return nil, fmt.Errorf("pod %s has no sidecar: is its namespace in the mesh, and was the pod made after that?", pod)
	}
	config, err := e.Config()
	if err != nil {
		return nil, err
	}
	address, stop, err := forward(ctx, config, pod, localPort)
	if err != nil {
		return nil, err
	}
	defer stop()
	return get(ctx, "http://"+address+"/"+strings.TrimPrefix(query, "/"))
}

func hasSidecar(p *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			if c.Name == "envoy" {
				return true
			}
		}
	}
	return false
}

// forward opens a local port to the admin interface of a pod until stop is called.
func forward(ctx context.Context, config *rest.Config, pod client.ObjectKey, localPort uint16) (address string, stop func(), err error) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return "", nil, fmt.Errorf("preparing to forward a port: %w", err)
	}
	host, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return "", nil, fmt.Errorf("finding the API server: %w", err)
	}
	target := &url.URL{
		Scheme: host.Scheme, Host: host.Host,
		Path: strings.TrimSuffix(host.Path, "/") + "/api/v1/namespaces/" + pod.Namespace + "/pods/" + pod.Name + "/portforward",
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	stopped, ready := make(chan struct{}), make(chan struct{})
	ports := []string{fmt.Sprintf("%d:%d", localPort, adminPort)}
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stopped, ready, io.Discard, io.Discard)
	if err != nil {
		return "", nil, fmt.Errorf("forwarding a port to pod %s: %w", pod, err)
	}
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = forwarder.ForwardPorts()
	}()
	select {
	case <-ready:
	case <-ended:
		return "", nil, fmt.Errorf("forwarding a port to pod %s: %w", pod, failed)
	case <-ctx.Done():
		close(stopped)
		return "", nil, ctx.Err()
	}
	got, err := forwarder.GetPorts()
	if err != nil {
		close(stopped)
		return "", nil, fmt.Errorf("forwarding a port to pod %s: %w", pod, err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(got[0].Local))), func() {
		close(stopped)
		<-ended
	}, nil
}

func get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking the sidecar: %w", err)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the sidecar: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the sidecar's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the sidecar answered %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
