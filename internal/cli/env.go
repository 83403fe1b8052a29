package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

// Env is where a command runs: its streams and its cluster.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Kubeconfig and Context choose the cluster; empty is what kubectl would choose.
	Kubeconfig, Context string
	// Namespace is the mesh's namespace: --osm-namespace.
	Namespace string
}

// Commands returns the verbs that work on a cluster.
func Commands(in io.Reader, out, err io.Writer) []*cobra.Command {
	env := &Env{In: in, Out: out, Err: err}
	commands := []*cobra.Command{
		newInstall(env), newUninstall(env), newMesh(env), newNamespace(env), newProxy(env),
	}
	for _, c := range commands {
		flags := c.PersistentFlags()
		flags.StringVar(&env.Namespace, "osm-namespace", "osm-system", "namespace of the control plane")
		flags.StringVar(&env.Kubeconfig, "kubeconfig", "", "path of the kubeconfig file")
		flags.StringVar(&env.Context, "kube-context", "", "context of the kubeconfig file")
	}
	return commands
}

// Config returns how to reach the cluster.
func (e *Env) Config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = e.Kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: e.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	config.UserAgent = "osm"
	config.QPS, config.Burst = 50, 100
	return config, nil
}

// Client returns a client of the cluster.
func (e *Env) Client() (client.Client, error) {
	config, err := e.Config()
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	return c, nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, admissionregistrationv1.AddToScheme,
		operatorv1alpha1.AddToScheme, configv1alpha2.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

func (e *Env) printf(format string, args ...any) {
	fmt.Fprintf(e.Out, format, args...)
}
