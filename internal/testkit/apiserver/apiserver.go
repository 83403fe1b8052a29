// Package apiserver starts a real kube-apiserver with the project's CRDs, for tests of
// what talks to one. It needs KUBEBUILDER_ASSETS to name a folder with kube-apiserver
// and etcd; where that is not set the test is skipped, and everywhere else a server
// that does not start is a failure.
package apiserver

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Option changes what a server is started with.
type Option func(*envtest.Environment)

// CRDs has the server know the kinds of these folders in place of the project's; no
// folder leaves it with Kubernetes' own.
func CRDs(dirs ...string) Option {
	return func(env *envtest.Environment) { env.CRDDirectoryPaths = dirs }
}

// Start runs an API server until the test ends, and returns how to reach it as an
// administrator.
func Start(tb testing.TB, options ...Option) *rest.Config {
	tb.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		tb.Skip("KUBEBUILDER_ASSETS is not set")
	}
	env := Environment(options...)
	config, err := env.Start()
	if err != nil {
		tb.Fatalf("starting an API server: %v", err)
	}
	tb.Cleanup(func() {
		if err := env.Stop(); err != nil {
			tb.Errorf("stopping the API server: %v", err)
		}
	})
	config.QPS, config.Burst = 200, 400
	return config
}

// Environment describes the server, for programs that start it themselves.
func Environment(options ...Option) *envtest.Environment {
	env := &envtest.Environment{
		CRDDirectoryPaths:        []string{filepath.Join(root(), "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: 2 * time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
	}
	for _, option := range options {
		option(env)
	}
	return env
}

// root is the top folder of the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}
