package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/telemetry"
)

// controlPlaneOptions are the flags and the environment of "osm control-plane".
type controlPlaneOptions struct {
	mesh, namespace, revision, trustDomain string
	podName                                string
	osmImage, envoyImage, pullPolicy       string
	workloadIdentity                       string
	logLevel                               string

	servingDir, issuerDir, trustDir                                                     string
	xdsPort, reportPort, identityPort, injectorPort, httpPort, debugPort, validatorPort int
	// farewell is how long the process serves on after it said that it is not ready, drain
	// over which time its proxies then move.
	farewell, drain time.Duration
}

func newControlPlaneCommand() *cobra.Command {
	var o controlPlaneOptions
	c := &cobra.Command{
		Use: "control-plane", Short: "Run the control plane of a mesh (in the cluster)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, level, err := telemetry.NewLogger(cmd.ErrOrStderr(), o.logLevel)
			if err != nil {
				return err
			}
			ctrl.SetLogger(log)
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("finding the cluster: %w", err)
			}
			config.QPS, config.Burst = 100, 200
			return runControlPlane(logf.IntoContext(cmd.Context(), log), o, config, level)
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.mesh, "mesh", "", "name of the mesh")
	flags.StringVar(&o.namespace, "mesh-namespace", "", "namespace of the mesh")
	flags.StringVar(&o.revision, "revision", "", "revision of the control plane")
	flags.StringVar(&o.trustDomain, "trust-domain", string(identity.DefaultTrustDomain), "SPIFFE trust domain of the mesh")
	flags.StringVar(&o.podName, "pod-name", os.Getenv("POD_NAME"), "name of this replica")
	flags.StringVar(&o.workloadIdentity, "workload-identity", string(operatorv1alpha1.WorkloadIdentityPodCertificate), "where new pods get their certificates from: PodCertificate or ServiceAccountToken")
	flags.StringVar(&o.osmImage, "osm-image", "", "image of the init container")
	flags.StringVar(&o.envoyImage, "envoy-image", "", "image of the sidecar")
	flags.StringVar(&o.pullPolicy, "image-pull-policy", string(corev1.PullIfNotPresent), "pull policy of both images")
	flags.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn or error, until the MeshConfig says")
	flags.StringVar(&o.servingDir, "serving-dir", controlplane.ServingDir, "folder of the certificate to serve with: tls.crt and tls.key")
	flags.StringVar(&o.issuerDir, "issuer-dir", controlplane.IssuerDir, "folder of the certificate to sign with: tls.crt and tls.key")
	flags.StringVar(&o.trustDir, "trust-dir", controlplane.TrustDir, "folder of the mesh's roots: ca.pem")
	flags.IntVar(&o.xdsPort, "xds-port", render.XDSPort, "port of the xDS server")
	flags.IntVar(&o.reportPort, "report-port", render.ReportPort, "port of the report stream")
	flags.IntVar(&o.identityPort, "identity-port", render.IdentityPort, "port that gives certificates to pods that prove themselves with a token")
	flags.IntVar(&o.injectorPort, "injector-port", render.InjectorPort, "port of the webhook for pods")
	flags.IntVar(&o.httpPort, "http-port", render.HTTPPort, "port of health, metrics and version")
	flags.IntVar(&o.debugPort, "debug-port", render.DebugPort, "port of the debug server")
	flags.IntVar(&o.validatorPort, "validator-port", render.ValidatorPort, "port of the webhook for policies")
	flags.DurationVar(&o.farewell, "shutdown-delay", time.Second, "how long to serve on after saying not to be ready")
	flags.DurationVar(&o.drain, "drain-time", 10*time.Second, "over which time proxies move to other replicas at the end")
	return c
}

// runControlPlane runs the process until ctx is done.
func runControlPlane(ctx context.Context, o controlPlaneOptions, config *rest.Config, level *telemetry.Level) error {
	if o.mesh == "" || o.namespace == "" || o.revision == "" || o.podName == "" {
		return errors.New("--mesh, --mesh-namespace, --revision and --pod-name are needed")
	}
	td, err := identity.ParseTrustDomain(o.trustDomain)
	if err != nil {
		return fmt.Errorf("--trust-domain: %w", err)
	}
	p := &controlPlane{options: o, trustDomain: td, config: config, level: level, log: logr.FromContextOrDiscard(ctx)}
	if err := p.wire(ctx); err != nil {
		return err
	}
	return p.run(ctx)
}

// run runs all parts until ctx is done, and then stops them in order: first the
// replica says that it is not ready, then its proxies move to others, still served with
// the newest, and then everything else ends.
func (p *controlPlane) run(ctx context.Context) error {
	rest, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()
	xds, stopXDS := context.WithCancel(rest)
	defer stopXDS()
	restDone, xdsDone := make(chan error, 1), make(chan error, 1)
	go func() { restDone <- p.manager.Start(rest) }()
	go func() { xdsDone <- p.serveXDS(xds) }()

	var errs []error
	select {
	case <-ctx.Done():
		p.log.Info("Stopping", "reason", context.Cause(ctx).Error())
		p.stopping.Store(true)
		select {
		case <-time.After(p.options.farewell):
		case err := <-restDone:
			restDone <- err
		}
	case err := <-restDone:
		restDone <- err
	case err := <-xdsDone:
		xdsDone <- err
	}
	stopXDS()
	errs = append(errs, <-xdsDone)
	stopRest()
	errs = append(errs, <-restDone)
	p.engine.Wait()
	return errors.Join(append(errs, p.debug.Switch(context.WithoutCancel(ctx), false))...)
}
