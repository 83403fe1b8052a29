package cmd

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/controllers/mesh"
	"github.com/openservicemesh/osm-operator/controllers/revision"
	"github.com/openservicemesh/osm-operator/controllers/trust"
	"github.com/openservicemesh/osm-operator/internal/release"
	"github.com/openservicemesh/osm-operator/internal/telemetry"
)

// operatorOptions are the flags and the environment of "osm operator".
type operatorOptions struct {
	leaderElect              bool
	metricsAddr, healthAddr  string
	webhookPort              int
	logLevel                 string
	namespace, name, account string
	osmImage, envoyImage     string
	releases                 []string
}

func newOperatorCommand() *cobra.Command {
	var o operatorOptions
	c := &cobra.Command{
		Use: "operator", Short: "Run the operator (in the cluster)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runOperator(cmd.Context(), o) },
	}
	flags := c.Flags()
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "let one of several replicas act")
	flags.StringVar(&o.metricsAddr, "metrics-bind-address", ":8080", "address of /metrics")
	flags.StringVar(&o.healthAddr, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flags.IntVar(&o.webhookPort, "webhook-port", 9443, "port of the webhook for Meshes")
	flags.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	flags.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the operator")
	flags.StringVar(&o.name, "pod-name", os.Getenv("POD_NAME"), "name of this replica")
	flags.StringVar(&o.account, "service-account", os.Getenv("POD_SERVICE_ACCOUNT"), "ServiceAccount of the operator")
	flags.StringVar(&o.osmImage, "osm-image", os.Getenv("RELATED_IMAGE_OSM"), "image of the control plane, in place of the one of "+release.Current)
	flags.StringVar(&o.envoyImage, "envoy-image", os.Getenv("RELATED_IMAGE_ENVOY"), "image of the sidecar, in place of the one of "+release.Current)
	flags.StringArrayVar(&o.releases, "release", nil, "a release besides those of this build, as VERSION=OSM-IMAGE,ENVOY-IMAGE; can be repeated")
	return c
}

// catalogue returns the releases of this build, with what the packager and the flags say.
func (o operatorOptions) catalogue() (release.Catalogue, error) {
	more := make([]release.Release, 0, len(o.releases))
	for _, text := range o.releases {
		r, err := release.ParseRelease(text)
		if err != nil {
			return release.Catalogue{}, fmt.Errorf("--release: %w", err)
		}
		more = append(more, r)
	}
	return release.NewCatalogue(map[string]release.Images{release.Current: {OSM: o.osmImage, Envoy: o.envoyImage}}, more...), nil
}

// runOperator wires the operator's process and runs it until ctx is done.
func runOperator(ctx context.Context, o operatorOptions) error {
	if o.namespace == "" || o.account == "" {
		return fmt.Errorf("--namespace and --service-account are needed, or POD_NAMESPACE and POD_SERVICE_ACCOUNT in the environment")
	}
	log, _, err := telemetry.NewLogger(os.Stderr, o.logLevel)
	if err != nil {
		return err
	}
	ctrl.SetLogger(log)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	scheme, err := operatorScheme()
	if err != nil {
		return err
	}
	bundles, err := served(config, certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"))
	if err != nil {
		return err
	}
	identityOfWebhook := &trust.WebhookCertificate{Namespace: o.namespace}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme:                        scheme,
		Logger:                        log,
		Cache:                         operatorCache(bundles),
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "osm-operator",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddr},
		HealthProbeBindAddress:        o.healthAddr,
		WebhookServer:                 webhook.NewServer(webhook.Options{Port: o.webhookPort, TLSOpts: identityOfWebhook.TLSOptions()}),
		Client: client.Options{Cache: &client.CacheOptions{
			// Secrets are read live and by name: the operator may list none.
			DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}},
		}},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := wireOperator(mgr, o, identityOfWebhook, log); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func wireOperator(mgr manager.Manager, o operatorOptions, cert *trust.WebhookCertificate, log logr.Logger) error {
	catalogue, err := o.catalogue()
	if err != nil {
		return err
	}
	expiry := &trust.Expiry{}
	if err := ctrlmetrics.Registry.Register(expiry); err != nil {
		return fmt.Errorf("registering the metrics of certificates: %w", err)
	}
	authority := trust.New(trust.Options{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("osm-operator"),
		Namespace: o.namespace, ServiceAccount: o.account, Catalogue: catalogue, Expiry: expiry, Now: time.Now,
	})
	if err := authority.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("setting up the trust controller: %w", err)
	}
	reports := newReports(mgr.GetClient(), authority, log.WithName("report"))
	if err := mgr.Add(reports); err != nil {
		return fmt.Errorf("adding the report readers: %w", err)
	}
	err = revision.New(revision.Options{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("osm-operator"), Reports: reports,
	}).SetupWithManager(mgr, reports.Changed())
	if err != nil {
		return fmt.Errorf("setting up the revision controller: %w", err)
	}
	repairs, err := mesh.NewMetrics(ctrlmetrics.Registry)
	if err != nil {
		return fmt.Errorf("registering the operator's metrics: %w", err)
	}
	err = mesh.New(mesh.Options{
		Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("osm-operator"),
		Catalogue: catalogue, Namespace: o.namespace, ServiceAccount: o.account, Reports: reports, Metrics: repairs, Now: time.Now,
	}).SetupWithManager(mgr)
	if err != nil {
		return fmt.Errorf("setting up the mesh controller: %w", err)
	}
	cert.Client, cert.Reader = mgr.GetClient(), mgr.GetAPIReader()
	if err := mgr.Add(cert); err != nil {
		return fmt.Errorf("adding the webhook's certificate: %w", err)
	}
	mgr.GetWebhookServer().Register("/validate-mesh", &admission.Webhook{
		Handler: &mesh.Validator{Reader: mgr.GetClient(), Catalogue: catalogue},
	})
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("webhook", cert.Ready)
}

func operatorScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, operatorv1alpha1.AddToScheme, configv1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

// operatorCache holds what belongs to meshes and nothing else; bundles says that the
// cluster has ClusterTrustBundles.
func operatorCache(bundles bool) cache.Options {
	owned := cache.ByObject{Label: mustHave(operatorv1alpha1.LabelMesh)}
	by := map[client.Object]cache.ByObject{
		&corev1.Pod{}: {
			Label: mustHave(operatorv1alpha1.LabelInjectedBy),
			Field: fields.AndSelectors(
				fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
				fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
			),
			Transform: stripPod,
		},
	}
	kinds := []client.Object{
		&corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.Service{}, &appsv1.Deployment{}, &discoveryv1.EndpointSlice{},
		&rbacv1.ClusterRoleBinding{}, &rbacv1.RoleBinding{}, &networkingv1.NetworkPolicy{}, &policyv1.PodDisruptionBudget{},
		&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{},
	}
	if bundles {
		kinds = append(kinds, &certificatesv1.ClusterTrustBundle{})
	}
	for _, kind := range kinds {
		by[kind] = owned
	}
	return cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: by}
}

// mustHave selects what has a label.
func mustHave(label string) labels.Selector {
	r, err := labels.NewRequirement(label, selection.Exists, nil)
	if err != nil {
		return labels.Nothing()
	}
	return labels.NewSelector().Add(*r)
}

// stripPod keeps of a pod what is counted, and what tells how it is.
func stripPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	settings, told := p.Annotations[operatorv1alpha1.AnnotationSettings]
	p.ManagedFields, p.Annotations = nil, nil
	if told {
		p.Annotations = map[string]string{operatorv1alpha1.AnnotationSettings: settings}
	}
	p.Spec = corev1.PodSpec{}
	p.Status = corev1.PodStatus{
		Phase: p.Status.Phase, Conditions: readiness(p.Status.Conditions),
		InitContainerStatuses: restarts(p.Status.InitContainerStatuses), ContainerStatuses: restarts(p.Status.ContainerStatuses),
	}
	return p, nil
}

// readiness keeps of a pod's conditions whether it is ready.
func readiness(conditions []corev1.PodCondition) []corev1.PodCondition {
	for _, c := range conditions {
		if c.Type == corev1.PodReady {
			return []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return nil
}

// restarts keeps of containers how often they restarted, and what they wait for.
func restarts(containers []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, c := range containers {
		if c.RestartCount == 0 && c.State.Waiting == nil {
			continue
		}
		kept := corev1.ContainerStatus{Name: c.Name, RestartCount: c.RestartCount}
		if w := c.State.Waiting; w != nil {
			kept.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason}
		}
		out = append(out, kept)
	}
	return out
}
