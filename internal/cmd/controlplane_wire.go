package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	accessv1alpha3 "github.com/openservicemesh/osm-operator/api/smi/access/v1alpha3"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/controllers/policystatus"
	"github.com/openservicemesh/osm-operator/controllers/signing"
	"github.com/openservicemesh/osm-operator/internal/admission"
	"github.com/openservicemesh/osm-operator/internal/attest"
	"github.com/openservicemesh/osm-operator/internal/controlplane"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/inject"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/report"
	"github.com/openservicemesh/osm-operator/internal/telemetry"
	"github.com/openservicemesh/osm-operator/internal/watch"
	"github.com/openservicemesh/osm-operator/internal/xds/name"
	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// controlPlane is the process: what its parts share.
type controlPlane struct {
	options     controlPlaneOptions
	trustDomain identity.TrustDomain
	config      *rest.Config
	level       *telemetry.Level
	log         logr.Logger

	manager   manager.Manager
	registry  *prometheus.Registry
	metrics   *telemetry.Metrics
	files     *controlplane.Files
	engine    *controlplane.Engine
	xds       *serve.Server
	watcher   *watch.Watcher
	injection *controlplane.Injection
	verdicts  *controlplane.Verdicts
	statuses  *policystatus.Writer
	debug     *telemetry.Debug
	store     *report.Store
	waiting   *controlplane.Waiting
	attest    *attest.Server
	// certificates counts, whichever way pods get them.
	certificates *signing.Metrics
	webhooks     []webhook.Server
	// podCertificates says that the cluster has requests for them.
	podCertificates bool

	reach      watch.Reach
	stopping   atomic.Bool
	maxProxies atomic.Int64
	meshConfig atomic.Pointer[mesh.Object[configv1alpha2.MeshConfigSpec]]
}

// wire makes the parts and connects them:
//
//	cluster ── watcher ── Models ──> engine ── classes, endpoints ──> xds ──> proxies
//	files ──── roots ───────────────>                                  └────> reports
func (p *controlPlane) wire(ctx context.Context) error {
	if err := p.wireManager(ctx); err != nil {
		return err
	}
	p.registry = prometheus.NewRegistry()
	var err error
	p.metrics, err = telemetry.NewMetrics(p.registry, currentSite(), telemetry.Gauges{
		Queued: func() int { return p.watcher.Queued() }, Away: p.reach.Away,
	})
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	p.statuses = policystatus.New(policystatus.Options{
		Client: p.manager.GetClient(), Recorder: p.manager.GetEventRecorder("osm-control-plane"),
	})
	p.store = report.NewStore()
	p.waiting = &controlplane.Waiting{Concerns: issue.Outage, Tell: p.store.SetWaiting}
	p.verdicts = controlplane.NewVerdicts(controlplane.VerdictOptions{
		Log: p.log.WithName("policy"), Code: p.metrics.Code, Write: p.statuses.Set,
	})
	if err := p.wireServing(); err != nil {
		return err
	}
	p.watcher = watch.New(watch.Options{
		Cache: p.manager.GetCache(), Defaults: p.defaults(), Event: p.metrics.Event,
		MeshConfig: func(config *mesh.Object[configv1alpha2.MeshConfigSpec], problems []string) {
			p.follow(ctx, config, problems)
		},
	})
	host, hostName := controlplane.Host(p.options.namespace, p.options.revision)
	p.injection = controlplane.NewInjection(p.manager.GetClient(), inject.Config{
		Mesh: p.options.mesh, MeshNamespace: p.options.namespace, Revision: p.options.revision,
		ControlPlane: host, ControlPlaneName: hostName,
		OSMImage: p.options.osmImage, EnvoyImage: p.options.envoyImage, PullPolicy: corev1.PullPolicy(p.options.pullPolicy),
		Identity:       operatorv1alpha1.WorkloadIdentity(p.options.workloadIdentity),
		ControlPlaneID: identity.ControlPlane(p.trustDomain, p.options.mesh, p.options.revision),
	}, p.files.Roots)
	p.debug = telemetry.NewDebug(address(p.options.debugPort), p.debugPages()...)
	if p.certificates, err = signing.NewMetrics(p.registry); err != nil {
		return fmt.Errorf("registering the metrics of certificates: %w", err)
	}
	p.wireAttestation()
	return errors.Join(p.wireWebhooks(), p.wireSigning(), p.wireRunnables())
}

// wireManager makes what holds the caches and runs the parts. It elects no leader,
// since a manager that loses its lease ends the process: only the writing of statuses
// needs one, and proxies must not lose their replica for it.
func (p *controlPlane) wireManager(ctx context.Context) error {
	scheme, err := controlPlaneScheme()
	if err != nil {
		return err
	}
	cache := watch.CacheOptions(p.options.namespace, &p.reach)
	p.podCertificates, err = served(p.config, certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"))
	if err != nil {
		return err
	}
	if p.podCertificates {
		maps.Copy(cache.ByObject, signing.CacheByObject(identity.SignerName(p.options.mesh)))
	}
	p.manager, err = ctrl.NewManager(p.config, manager.Options{
		Scheme: scheme, Logger: p.log, Cache: cache,
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		BaseContext:             func() context.Context { return context.WithoutCancel(ctx) }, // it holds the logger
		GracefulShutdownTimeout: new(10 * time.Second),
		// The name is this process's, and tests run several in one.
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	return nil
}

func (p *controlPlane) defaults() mesh.Settings {
	return mesh.DefaultSettings(p.options.mesh, p.options.namespace, p.trustDomain)
}

// wireServing makes what serves proxies.
func (p *controlPlane) wireServing() error {
	cache := serve.NewCache()
	p.engine = controlplane.NewEngine(controlplane.EngineOptions{
		Cache: cache, Compiled: p.verdicts.Policies, Failed: p.metrics.Failed, Recompiled: p.metrics.Recompiled, Audited: p.metrics.Audited,
		Gone: func(podUID string) { p.xds.Disconnect(podUID, "the pod is gone") },
	})
	p.files = &controlplane.Files{
		Serving: p.options.servingDir, Issuer: p.options.issuerDir, Trust: p.options.trustDir,
		TrustDomain: p.trustDomain, Lifetime: p.lifetime, RootsChanged: p.rootsChanged,
		IssuerChanged: func() { p.attest.Changed() },
	}
	var err error
	p.xds, err = serve.NewServer(serve.Options{
		Cache: cache, TrustDomain: p.trustDomain, Credentials: p.files.Credentials,
		Authenticate: controlplane.NewAuthenticator(p.options.mesh, p.engine.Model, p.manager.GetAPIReader()).Authenticate,
		Registerer:   p.registry, TrustBundle: name.TrustBundle, Drain: p.options.drain,
		MaxProxies: func() int { return int(p.maxProxies.Load()) },
	})
	if err != nil {
		return fmt.Errorf("making the xDS server: %w", err)
	}
	return nil
}

func (p *controlPlane) rootsChanged(ctx context.Context, bundle []byte) {
	p.engine.SetTrustBundle(ctx, bundle)
	p.attest.Changed()
	if err := p.xds.Recheck(); err != nil {
		p.log.Info("Leaving connected proxies unchecked", "reason", err.Error())
	}
}

func (p *controlPlane) lifetime() time.Duration {
	if m := p.engine.Model(); m != nil {
		return m.Settings.LeafLifetime
	}
	return p.defaults().LeafLifetime
}

// wireWebhooks serves the two webhooks on their ports, with the newest certificate.
func (p *controlPlane) wireWebhooks() error {
	injector := &admission.Injector{
		Namespace: p.injection.Namespace, Config: p.injection.Config,
		UUID:     func() types.UID { return types.UID(uuid.NewString()) },
		Answered: func(success bool) { p.metrics.Admission("Pod", success) },
	}
	validator := &admission.Validator{Answered: p.metrics.Admission}
	for _, w := range []struct {
		port    int
		path    string
		handler ctrladmission.Handler
	}{
		{p.options.injectorPort, render.InjectPath, injector},
		{p.options.validatorPort, render.ValidatePath, validator},
	} {
		server := webhook.NewServer(webhook.Options{Port: w.port, TLSOpts: p.files.WebhookTLS()})
		server.Register(w.path, &ctrladmission.Webhook{Handler: w.handler})
		p.webhooks = append(p.webhooks, server)
		if err := p.manager.Add(server); err != nil {
			return fmt.Errorf("adding the webhook %s: %w", w.path, err)
		}
	}
	return nil
}

// wireSigning answers requests for certificates, where the cluster has them.
func (p *controlPlane) wireSigning() error {
	if !p.podCertificates {
		p.log.Info("Going without certificates for pods: the cluster has no PodCertificateRequests")
		return nil
	}
	share := &controlplane.Share{
		Reader: p.manager.GetClient(), Namespace: p.options.namespace, Self: p.options.podName,
		Labels: map[string]string{
			"app": render.ControllerService, operatorv1alpha1.LabelMesh: p.options.mesh, operatorv1alpha1.LabelRevision: p.options.revision,
		},
	}
	err := signing.New(signing.Options{
		Client: p.manager.GetClient(), APIReader: p.manager.GetAPIReader(), Signer: identity.SignerName(p.options.mesh),
		Issuer: p.files.CurrentIssuer, Mine: share.Mine, Now: time.Now,
		Enrolled: p.enrolled, Metrics: p.certificates,
		Issued: func(issued issue.Issued) { p.waiting.Done(issued.PodUID) }, Waiting: p.waiting.Wait,
	}).SetupWithManager(p.manager)
	if err != nil {
		return fmt.Errorf("setting up the signing controller: %w", err)
	}
	return nil
}

// wireAttestation answers pods that prove themselves with a token, whatever new pods get:
// some may be left from before.
func (p *controlPlane) wireAttestation() {
	reviewer := attest.Reviewer{Client: p.manager.GetClient(), Audience: identity.SignerName(p.options.mesh)}
	p.attest = attest.NewServer(attest.Options{
		Log: p.log.WithName("attest"), Review: reviewer.Review,
		Front: issue.Front{Issuer: p.files.CurrentIssuer, Enrolled: p.enrolled, Live: p.manager.GetAPIReader()}, State: p.files.State,
		Issued: func(issued issue.Issued, took time.Duration) {
			p.certificates.Issued(took)
			p.waiting.Done(issued.PodUID)
		},
		Denied: func(_, reason string) { p.certificates.Denied(reason) },
		Waiting: func(podUID, reason string) {
			p.certificates.Waiting(reason)
			p.waiting.Wait(podUID, reason)
		},
	})
}

// enrolled reports whether a namespace is in the mesh.
func (p *controlPlane) enrolled(namespace string) bool {
	m := p.engine.Model()
	return m != nil && m.Namespaces[namespace] != nil
}

// wireRunnables adds what runs beside the webhooks and the controllers.
func (p *controlPlane) wireRunnables() error {
	reports := &report.Server{
		Store: p.store, Replica: p.options.podName, Revision: p.options.revision, Operator: identity.Operator(p.trustDomain, p.options.mesh),
		ControlPlanes: identity.ControlPlanes(p.trustDomain, p.options.mesh),
	}
	lease := controlplane.Lease{
		Config: p.config, Namespace: p.options.namespace, Name: "osm-policystatus-" + p.options.mesh, Holder: p.options.podName,
	}
	for _, run := range []func(context.Context) error{
		p.files.Run,
		func(ctx context.Context) error { return p.watcher.Run(ctx, p.update) },
		func(ctx context.Context) error { controlplane.Report(ctx, p.xds, p.engine, p.store); return nil },
		func(ctx context.Context) error { p.engine.Audit(ctx); return nil },
		p.waiting.Run,
		func(ctx context.Context) error {
			return serveGRPC(ctx, p.options.reportPort, reports.NewGRPCServer(p.files.ServerTLS(true, "h2")))
		},
		func(ctx context.Context) error {
			return serveGRPC(ctx, p.options.identityPort, p.attest.NewGRPCServer(p.files.ServerTLS(false, "h2")))
		},
		func(ctx context.Context) error {
			listener, err := listen(ctx, p.options.httpPort)
			if err != nil {
				return err
			}
			return telemetry.Serve(ctx, listener, p.site().Handler())
		},
		func(ctx context.Context) error {
			return lease.Run(ctx, p.writeStatuses)
		},
	} {
		if err := p.manager.Add(everywhere(run)); err != nil {
			return fmt.Errorf("adding a part of the control plane: %w", err)
		}
	}
	return nil
}

// writeStatuses writes the status of policies, and counts proxies for it, until ctx is done.
func (p *controlPlane) writeStatuses(ctx context.Context) {
	var counted sync.WaitGroup
	counted.Go(func() { p.count(ctx) })
	_ = p.statuses.Start(ctx)
	counted.Wait()
}

func (p *controlPlane) update(ctx context.Context, m *mesh.Model, change mesh.Change) {
	p.engine.Update(ctx, m, change)
	p.metrics.Worked(len(m.Namespaces))
}

// serveXDS serves proxies until ctx is done and they have moved.
func (p *controlPlane) serveXDS(ctx context.Context) error {
	listener, err := listen(ctx, p.options.xdsPort)
	if err != nil {
		return err
	}
	return p.xds.Serve(ctx, listener)
}

// everywhere runs on every replica, leader or not.
type everywhere func(context.Context) error

// Start implements manager.Runnable.
func (e everywhere) Start(ctx context.Context) error { return e(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (everywhere) NeedLeaderElection() bool { return false }

func controlPlaneScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, operatorv1alpha1.AddToScheme, configv1alpha2.AddToScheme, policyv1alpha1.AddToScheme,
		accessv1alpha3.AddToScheme, specsv1alpha4.AddToScheme, splitv1alpha4.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

func address(port int) string { return ":" + strconv.Itoa(port) }

func listen(ctx context.Context, port int) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address(port))
	if err != nil {
		return nil, fmt.Errorf("listening on port %d: %w", port, err)
	}
	return listener, nil
}

// serveGRPC serves until ctx is done.
func serveGRPC(ctx context.Context, port int, server interface {
	Serve(net.Listener) error
	Stop()
},
) error {
	listener, err := listen(ctx, port)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}

// site is what the process tells about itself.
func (p *controlPlane) site() telemetry.Site {
	return telemetry.Site{
		Ready: p.ready, Gatherer: prometheus.Gatherers{p.registry, ctrlmetrics.Registry}, Metrics: p.metrics,
		Version: currentSite(),
		SMI: map[string]string{
			"HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
			"TCPRoute":       "specs.smi-spec.io/v1alpha4",
			"TrafficSplit":   "split.smi-spec.io/v1alpha2",
			"TrafficTarget":  "access.smi-spec.io/v1alpha3",
		},
	}
}

func currentSite() telemetry.Build {
	b := currentBuild()
	return telemetry.Build{Version: b.Version, GitCommit: b.GitCommit, BuildDate: b.BuildDate}
}

// ready says what is missing before proxies and pods can be served.
func (p *controlPlane) ready() error {
	if p.stopping.Load() {
		return errors.New("this replica stops")
	}
	errs := []error{p.files.Ready(), p.engine.Ready()}
	for _, w := range p.webhooks {
		errs = append(errs, w.StartedChecker()(nil))
	}
	return errors.Join(errs...)
}
