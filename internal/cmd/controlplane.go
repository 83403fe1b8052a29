package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/controllers/policystatus"
	"github.com/openservicemesh/osm-operator/controllers/signing"
	"github.com/openservicemesh/osm-operator/internal/admission"
	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/policy"
	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/report/reportpb"
	"github.com/openservicemesh/osm-operator/internal/telemetry"
	"github.com/openservicemesh/osm-operator/internal/watch"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// xdsDrain is the time over which proxies are moved to other replicas at a stop.
const xdsDrain = 5 * time.Second

// controlPlaneOptions are the flags and the environment of "osm control-plane".
type controlPlaneOptions struct {
	mesh, namespace, revision, trustDomain string
	podName                                string
	osmImage, envoyImage, pullPolicy       string
	logLevel                               string
	xdsPort                                int
}

func newControlPlaneCommand() *cobra.Command {
	var o controlPlaneOptions
	c := &cobra.Command{
		Use: "control-plane", Short: "Run the control plane of a mesh (in the cluster)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runControlPlane(cmd.Context(), o) },
	}
	flags := c.Flags()
	flags.StringVar(&o.mesh, "mesh", "", "name of the mesh")
	flags.StringVar(&o.namespace, "mesh-namespace", "", "namespace of the mesh")
	flags.StringVar(&o.revision, "revision", "", "revision of the control plane")
	flags.StringVar(&o.trustDomain, "trust-domain", string(identity.DefaultTrustDomain), "SPIFFE trust domain of the mesh")
	flags.StringVar(&o.podName, "pod-name", os.Getenv("POD_NAME"), "name of this replica")
	flags.StringVar(&o.osmImage, "osm-image", "", "image of the init container")
	flags.StringVar(&o.envoyImage, "envoy-image", "", "image of the sidecar")
	flags.StringVar(&o.pullPolicy, "image-pull-policy", string(corev1.PullIfNotPresent), "pull policy of both images")
	flags.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn or error, until the MeshConfig says")
	flags.IntVar(&o.xdsPort, "xds-port", render.XDSPort, "port of the xDS server")
	return c
}

// runControlPlane runs the process until ctx is done.
func runControlPlane(ctx context.Context, o controlPlaneOptions) error {
	if o.mesh == "" || o.namespace == "" || o.revision == "" || o.podName == "" {
		return errors.New("--mesh, --mesh-namespace, --revision and --pod-name are needed")
	}
	td, err := identity.ParseTrustDomain(o.trustDomain)
	if err != nil {
		return fmt.Errorf("--trust-domain: %w", err)
	}
	log, level, err := telemetry.NewLogger(os.Stderr, o.logLevel)
	if err != nil {
		return err
	}
	ctrl.SetLogger(log)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	config.QPS, config.Burst = 100, 200
	scheme, err := controlPlaneScheme()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: scheme, Logger: log,
		Cache:                         watch.CacheOptions(o.namespace),
		LeaderElection:                true,
		LeaderElectionID:              "osm-policystatus-" + o.mesh,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	p := &controlPlane{options: o, trustDomain: td, manager: mgr, level: level}
	if err := p.wire(); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// controlPlane is the process: what its parts share.
type controlPlane struct {
	options     controlPlaneOptions
	trustDomain identity.TrustDomain
	manager     manager.Manager
	level       *telemetry.Level

	files   *controlplane.Files
	engine  *controlplane.Engine
	watcher *watch.Watcher
	debug   *telemetry.Debug

	injection *controlplane.Injection
	// reports are what is to be said of policies, as of the last compilation.
	reports atomic.Pointer[[]policy.ObjectReport]
}

func (p *controlPlane) policyReports() []policy.ObjectReport {
	if reports := p.reports.Load(); reports != nil {
		return *reports
	}
	return nil
}

// xdsServer returns the server of the proxies' configuration.
func (p *controlPlane) xdsServer(xds *serve.Cache) (*serve.Server, error) {
	authenticator := controlplane.NewAuthenticator(p.options.mesh, p.engine.Model, p.manager.GetAPIReader())
	server, err := serve.NewServer(serve.Options{
		Cache: xds, TrustDomain: p.trustDomain, Credentials: p.files.Credentials, Authenticate: authenticator.Authenticate,
		Registerer: ctrlmetrics.Registry, TrustBundle: name.TrustBundle, Drain: xdsDrain,
	})
	if err != nil {
		return nil, fmt.Errorf("making the xDS server: %w", err)
	}
	return server, nil
}

// serveXDS serves proxies until ctx is done.
func (p *controlPlane) serveXDS(ctx context.Context, server *serve.Server) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(p.options.xdsPort))
	if err != nil {
		return fmt.Errorf("listening on port %d: %w", p.options.xdsPort, err)
	}
	return server.Serve(ctx, listener)
}

// wire connects the parts. Each runs as a runnable of the manager, which stops them
// all and waits for them.
func (p *controlPlane) wire() error {
	o := p.options
	xds := serve.NewCache()
	p.engine = controlplane.NewEngine(controlplane.EngineOptions{
		Cache: xds, Compiled: func(reports []policy.ObjectReport) { p.reports.Store(&reports) },
	})
	p.files = &controlplane.Files{
		Serving: controlplane.ServingDir, Issuer: controlplane.IssuerDir, Trust: controlplane.TrustDir,
		TrustDomain: p.trustDomain, Lifetime: p.lifetime, RootsChanged: p.engine.SetTrustBundle,
	}
	p.watcher = watch.New(watch.Options{
		Cache: p.manager.GetCache(), Defaults: mesh.DefaultSettings(o.mesh, o.namespace, p.trustDomain), MeshConfig: p.follow,
	})
	store := report.NewStore()
	server, err := p.xdsServer(xds)
	if err != nil {
		return err
	}
	p.debug = telemetry.NewDebug(render.DebugPort, debugPages(server)...)
	if err := p.wireWebhooks(); err != nil {
		return err
	}
	if err := p.wireControllers(); err != nil {
		return err
	}
	reports := (&report.Server{
		Store: store, Replica: o.podName, Revision: o.revision, Operator: identity.Operator(p.trustDomain, o.mesh),
	})
	for _, run := range []func(context.Context) error{
		p.files.Run,
		func(ctx context.Context) error { return p.watcher.Run(ctx, p.engine.Update) },
		func(ctx context.Context) error { return p.serveXDS(ctx, server) },
		func(ctx context.Context) error {
			server.Watch(ctx, reportPace, func(changed []serve.ProxyState, gone []string) { tell(store, changed, gone) })
			return nil
		},
		func(ctx context.Context) error {
			return serveGRPC(ctx, render.ReportPort, reports.NewGRPCServer(p.files.ServerTLS(true, "h2")))
		},
		func(ctx context.Context) error {
			return telemetry.Serve(ctx, ":"+strconv.Itoa(render.HTTPPort), p.http())
		},
	} {
		if err := p.manager.Add(everywhere(run)); err != nil {
			return fmt.Errorf("adding a part of the control plane: %w", err)
		}
	}
	return nil
}

// everywhere runs on every replica, leader or not.
type everywhere func(context.Context) error

// Start implements manager.Runnable.
func (e everywhere) Start(ctx context.Context) error { return e(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (everywhere) NeedLeaderElection() bool { return false }

func (p *controlPlane) lifetime() time.Duration {
	if m := p.engine.Model(); m != nil {
		return m.Settings.LeafLifetime
	}
	return mesh.DefaultSettings("", "", "").LeafLifetime
}

// follow brings the process in line with the MeshConfig.
func (p *controlPlane) follow(config *mesh.Object[configv1alpha2.MeshConfigSpec], problems []string) {
	for _, problem := range problems {
		p.manager.GetLogger().Info("Following the MeshConfig in part", "reason", problem)
	}
	level, debug := p.options.logLevel, false
	if o := config.Spec.Observability; o != nil {
		if o.OSMLogLevel != "" {
			level = o.OSMLogLevel
		}
		debug = o.EnableDebugServer != nil && *o.EnableDebugServer
	}
	settings, _ := mesh.SettingsFrom(mesh.DefaultSettings(p.options.mesh, p.options.namespace, p.trustDomain), config.Spec)
	p.injection.Follow(config.Spec, settings.LeafLifetime)
	if err := errors.Join(p.level.Set(level), p.debug.Switch(context.Background(), debug)); err != nil {
		p.manager.GetLogger().Error(err, "Following the MeshConfig in part")
	}
}

// wireWebhooks serves the two webhooks on their ports, with the newest certificate.
func (p *controlPlane) wireWebhooks() error {
	o := p.options
	injection := controlplane.NewInjection(p.manager.GetClient(), inject.Config{
		Mesh: o.mesh, MeshNamespace: o.namespace, Revision: o.revision, TrustDomain: p.trustDomain,
		ControlPlane: render.Deployment(o.revision) + "." + o.namespace + ".svc.cluster.local",
		OSMImage:     o.osmImage, EnvoyImage: o.envoyImage, PullPolicy: corev1.PullPolicy(o.pullPolicy),
	})
	p.injection = injection
	injector := &admission.Injector{
		Namespace: injection.Namespace, Config: injection.Config,
		UUID: func() types.UID { return types.UID(uuid.NewString()) },
	}
	for _, w := range []struct {
		port    int
		path    string
		handler ctrladmission.Handler
	}{
		{render.InjectorPort, render.InjectPath, injector},
		{render.ValidatorPort, render.ValidatePath, &admission.Validator{}},
	} {
		server := webhook.NewServer(webhook.Options{Port: w.port, TLSOpts: p.files.WebhookTLS()})
		server.Register(w.path, &ctrladmission.Webhook{Handler: w.handler})
		if err := p.manager.Add(server); err != nil {
			return fmt.Errorf("adding the webhook %s: %w", w.path, err)
		}
	}
	return nil
}

func (p *controlPlane) wireControllers() error {
	err := signing.New(signing.Options{
		Client: p.manager.GetClient(), APIReader: p.manager.GetAPIReader(), Signer: identity.SignerName(p.options.mesh),
		Issuer: p.files.CurrentIssuer, Now: time.Now,
	}).SetupWithManager(p.manager)
	if err != nil {
		return fmt.Errorf("setting up the signing controller: %w", err)
	}
	return p.manager.Add(&policystatus.Writer{
		Client: p.manager.GetClient(), Reports: p.policyReports, Recorder: p.manager.GetEventRecorder("osm-control-plane"),
	})
}

// http serves health, metrics and versions.
func (p *controlPlane) http() http.Handler {
	return telemetry.Handler(telemetry.Health{Ready: p.ready}, ctrlmetrics.Registry, currentBuild(), map[string]string{
		"HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
		"TCPRoute":       "specs.smi-spec.io/v1alpha4",
		"TrafficSplit":   "split.smi-spec.io/v1alpha2",
		"TrafficTarget":  "access.smi-spec.io/v1alpha3",
	})
}

// ready says what is missing before proxies and pods can be served.
func (p *controlPlane) ready() error {
	if err := p.files.Ready(); err != nil {
		return err
	}
	return p.engine.Ready()
}

func controlPlaneScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, configv1alpha2.AddToScheme, policyv1alpha1.AddToScheme,
		accessv1alpha3.AddToScheme, specsv1alpha4.AddToScheme, splitv1alpha4.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

// serveGRPC serves until ctx is done.
func serveGRPC(ctx context.Context, port int, server interface {
	Serve(net.Listener) error
	Stop()
},
) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return fmt.Errorf("listening on port %d: %w", port, err)
	}
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}

// debugPages are what the debug server shows; nothing secret is in them.
func debugPages(server *serve.Server) []telemetry.Page {
	return []telemetry.Page{
		{Path: "proxy", Show: func(*http.Request) (any, error) { return server.Proxies(), nil }},
		{Path: "nacks", Show: func(*http.Request) (any, error) { return server.NACKs(), nil }},
	}
}

// tell puts what is known of proxies where the operator reads it.
func tell(store *report.Store, changed []serve.ProxyState, gone []string) {
	for _, uid := range gone {
		store.Remove(uid)
	}
	for _, p := range changed {
		told := &reportpb.Proxy{
			PodUid: p.PodUID, Namespace: p.Namespace, Name: p.Name, Revision: p.Revision, Class: p.Class,
			ConnectedSince: timestamppb.New(p.ConnectedSince),
			LeafSerial:     p.LeafSerial, LeafIssuer: p.LeafIssuer, LeafNotAfter: timestamppb.New(p.LeafNotAfter),
			TrustBundle: p.TrustBundle, InSync: p.InSync, Pending: uint32(max(p.Pending, 0)), //nolint:gosec // a count of resources fits
		}
		if r := p.Rejected; r != nil {
			told.Rejected = &reportpb.Rejection{TypeUrl: r.TypeURL, Resources: r.Resources, Message: r.Message}
		}
		store.Set(told)
	}
}
