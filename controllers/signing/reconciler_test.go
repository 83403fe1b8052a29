package signing_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/openservicemesh/osm-operator/controllers/signing"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/ca/builtin"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
)

const (
	signer = "identity.openservicemesh.io/osm"
	uid    = types.UID("5f6c7c1e-9a51-4a4e-8a0e-3b1d5f0c2b77")
)

// authority signs for tests.
func authority(t *testing.T) *builtin.Authority {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	root, err := builtin.NewRoot(builtin.RootOptions{Name: "root", KeyType: ca.ECDSAP256, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ca.RootLifetime)})
	if err != nil {
		t.Fatal(err)
	}
	a, err := root.NewIntermediate(t.Context(), ca.ECDSAP256, ca.IntermediateRequest{
		Name: "issuer", TrustDomain: identity.DefaultTrustDomain, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ca.IntermediateLifetime(ca.LeafLifetime)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issuerOf(t *testing.T, a ca.Authority) *issue.Issuer {
	t.Helper()
	i, err := issue.New(issue.Options{Authority: a, TrustDomain: identity.DefaultTrustDomain})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: uid},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "node-1", Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
}

// request is what a kubelet asks for in the name of a pod.
func request(t *testing.T, of *corev1.Pod, signer string) *certificatesv1.PodCertificateRequest {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, pki.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: of.Namespace, Name: "req-" + of.Name, UID: "request-uid", CreationTimestamp: metav1.Now()},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: signer, PodName: of.Name, PodUID: of.UID,
			ServiceAccountName: of.Spec.ServiceAccountName, ServiceAccountUID: "sa-uid", NodeName: types.NodeName(of.Spec.NodeName), NodeUID: "node-uid",
			MaxExpirationSeconds: new(int32(86400)), StubPKCS10Request: csr,
		},
	}
}

// world is a reconciler between what is faked around it.
type world struct {
	signing.Options
	client   client.Client
	registry *prometheus.Registry
	issued   []issue.Issued
	waiting  []string
	now      time.Time
}

// newWorld has a cluster of these objects. Change changes what the reconciler is made
// of, or what the API server answers.
func newWorld(t *testing.T, calls interceptor.Funcs, change func(*world), objects ...client.Object) (*world, *signing.Reconciler) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&certificatesv1.PodCertificateRequest{}).WithInterceptorFuncs(calls).Build()
	i := issuerOf(t, authority(t))
	w := &world{client: c, registry: prometheus.NewRegistry(), now: time.Now()}
	metrics, err := signing.NewMetrics(w.registry)
	if err != nil {
		t.Fatal(err)
	}
	w.Options = signing.Options{
		Metrics: metrics,
		Client:  c, APIReader: c, Signer: signer, Issuer: func() *issue.Issuer { return i },
		Issued:  func(i issue.Issued) { w.issued = append(w.issued, i) },
		Waiting: func(_, reason string) { w.waiting = append(w.waiting, reason) },
		Now:     func() time.Time { return w.now },
	}
	if change != nil {
		change(w)
	}
	return w, signing.New(w.Options)
}

func reconcile(t *testing.T, r *signing.Reconciler, of client.Object) (ctrl.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(of)})
}

// answer is the condition of a request, with its reason; empty while it waits.
func (w *world) answer(t *testing.T, of *certificatesv1.PodCertificateRequest) string {
	t.Helper()
	var got certificatesv1.PodCertificateRequest
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(of), &got); err != nil {
		t.Fatal(err)
	}
	return answerOf(&got)
}

func answerOf(req *certificatesv1.PodCertificateRequest) string {
	if len(req.Status.Conditions) == 0 && req.Status.CertificateChain == "" {
		return ""
	}
	if len(req.Status.Conditions) != 1 {
		return "several conditions"
	}
	return req.Status.Conditions[0].Type + " " + req.Status.Conditions[0].Reason
}

func TestRequestsAreAnsweredByWhatTheyAre(t *testing.T) {
	getPod := func(err error) interceptor.Funcs {
		return interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.Pod); ok {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		}}
	}
	away := func(err error) func(*world) {
		return func(w *world) {
			i := issuerOf(t, failing{err})
			w.Issuer = func() *issue.Issuer { return i }
		}
	}
	cases := map[string]struct {
		calls   interceptor.Funcs
		change  func(*world)
		request func(*certificatesv1.PodCertificateRequest)
		pod     func(*corev1.Pod)
		want    string
		// wantWaiting is why it waits, wantRetry whether it is looked at again.
		wantWaiting string
		wantRetry   bool
	}{
		"A pod's":          {want: "Issued Issued"},
		"Another signer's": {request: func(r *certificatesv1.PodCertificateRequest) { r.Spec.SignerName = signer + "-2" }},
		"One that was denied": {request: func(r *certificatesv1.PodCertificateRequest) {
			r.Status.Conditions = []metav1.Condition{{Type: "Denied", Reason: "No"}}
		}, want: "Denied No"},
		"One that failed": {request: func(r *certificatesv1.PodCertificateRequest) {
			r.Status.Conditions = []metav1.Condition{{Type: "Failed", Reason: "No"}}
		}, want: "Failed No"},
		"Another pod's of the same name": {pod: func(p *corev1.Pod) { p.UID = "another" }, want: "Denied PodReplaced"},
		"For another ServiceAccount":     {request: func(r *certificatesv1.PodCertificateRequest) { r.Spec.ServiceAccountName = "admin" }, want: "Denied PodMismatch"},
		"From another node":              {request: func(r *certificatesv1.PodCertificateRequest) { r.Spec.NodeName = "node-2" }, want: "Denied PodMismatch"},
		"For a pod that has ended":       {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, want: "Denied PodFinished"},
		"For a pod that is terminating":  {pod: func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = new(metav1.Now()), []string{"a/b"} }, want: "Issued Issued"},
		"With annotations that mean nothing": {request: func(r *certificatesv1.PodCertificateRequest) {
			r.Spec.UnverifiedUserAnnotations = map[string]string{"a.b/c": "d"}
		}, want: "Denied InvalidUnverifiedUserAnnotations"},
		"For a pod that is not there":          {calls: getPod(apierrors.NewNotFound(corev1.Resource("pods"), "web-1")), wantWaiting: issue.ReasonPodNotFound, wantRetry: true},
		"While the API server is in trouble":   {calls: getPod(apierrors.NewInternalError(errors.New("etcd"))), wantWaiting: issue.ReasonPodUnreadable, wantRetry: true},
		"While there is nothing to sign with":  {change: func(w *world) { w.Issuer = func() *issue.Issuer { return nil } }, wantWaiting: issue.ReasonNoIssuer, wantRetry: true},
		"While the authority is away":          {change: away(errors.New("connection refused")), wantWaiting: issue.ReasonAuthorityUnavailable, wantRetry: true},
		"While the authority refuses":          {change: away(&ca.RefusedError{Err: errors.New("403")}), wantWaiting: issue.ReasonAuthorityRefused, wantRetry: true},
		"From a namespace outside of the mesh": {change: func(w *world) { w.Enrolled = func(ns string) bool { return ns != "shop" } }, wantWaiting: issue.ReasonNotEnrolled, wantRetry: true},
		"From a namespace in the mesh":         {change: func(w *world) { w.Enrolled = func(ns string) bool { return ns == "shop" } }, want: "Issued Issued"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := pod()
			req := request(t, p, signer)
			if tc.request != nil {
				tc.request(req)
			}
			if tc.pod != nil {
				tc.pod(p)
			}
			w, r := newWorld(t, tc.calls, tc.change, p, req)
			result, err := reconcile(t, r, req)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.answer(t, req); got != tc.want {
				t.Errorf("answered %q, want %q", got, tc.want)
			}
			var wantWaiting []string
			if tc.wantWaiting != "" {
				wantWaiting = []string{tc.wantWaiting}
			}
			if diff := cmp.Diff(wantWaiting, w.waiting); diff != "" {
				t.Errorf("waits because of (-want +got):\n%s", diff)
			}
			if (result.RequeueAfter > 0) != tc.wantRetry || result.RequeueAfter > time.Minute {
				t.Errorf("looked at again after %s, want that: %t", result.RequeueAfter, tc.wantRetry)
			}
			if issued := len(w.issued) == 1; issued != (tc.want == "Issued Issued") {
				t.Errorf("told of %d certificates", len(w.issued))
			}
		})
	}
}

// failing is an authority that is away.
type failing struct{ err error }

func (f failing) Issue(context.Context, ca.Request) (ca.Chain, error) { return nil, f.err }
func (f failing) Bundle(context.Context) ([]*x509.Certificate, error) { return nil, f.err }

func TestARequestThatIsGoneIsNoError(t *testing.T) {
	_, r := newWorld(t, interceptor.Funcs{}, nil)
	if result, err := reconcile(t, r, request(t, pod(), signer)); err != nil || result.RequeueAfter != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestAnswersThatComeTooLateAreNotTold(t *testing.T) {
	resource := certificatesv1.Resource("podcertificaterequests")
	for name, tc := range map[string]struct {
		err     error
		wantErr bool
	}{
		"Another replica was first":    {err: apierrors.NewConflict(resource, "req", errors.New("changed"))},
		"The pod is gone":              {err: apierrors.NewNotFound(resource, "req")},
		"The API server refuses":       {err: apierrors.NewForbidden(resource, "req", errors.New("sign")), wantErr: true},
		"The API server is in trouble": {err: apierrors.NewInternalError(errors.New("etcd")), wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			calls := interceptor.Funcs{SubResourceUpdate: func(context.Context, client.Client, string, client.Object, ...client.SubResourceUpdateOption) error {
				return tc.err
			}}
			p := pod()
			req := request(t, p, signer)
			w, r := newWorld(t, calls, nil, p, req)
			if _, err := reconcile(t, r, req); (err != nil) != tc.wantErr || tc.wantErr && !errors.Is(err, tc.err) {
				t.Errorf("error %v, want one: %t", err, tc.wantErr)
			}
			if len(w.issued) != 0 {
				t.Errorf("told of a certificate that no pod has: %+v", w.issued)
			}
		})
	}
}

func TestWhatIsOfAnotherReplicaIsLeftToItForAWhile(t *testing.T) {
	p := pod()
	req := request(t, p, signer)
	req.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
	var asked []string
	w, r := newWorld(t, interceptor.Funcs{}, func(w *world) {
		w.Mine = func(uid string) bool {
			asked = append(asked, uid)
			return false
		}
	}, p, req)
	w.now = req.CreationTimestamp.Add(time.Second)
	result, err := reconcile(t, r, req)
	if err != nil || result.RequeueAfter != 4*time.Second || w.answer(t, req) != "" {
		t.Errorf("after a second: %+v, %v, answered %q", result, err, w.answer(t, req))
	}
	w.now = req.CreationTimestamp.Add(-time.Hour)
	if result, err = reconcile(t, r, req); err != nil || result.RequeueAfter != 5*time.Second {
		t.Errorf("by a clock that is behind: %+v, %v", result, err)
	}
	w.now = req.CreationTimestamp.Add(5 * time.Second)
	if _, err = reconcile(t, r, req); err != nil || w.answer(t, req) != "Issued Issued" {
		t.Errorf("after five seconds: %v, answered %q", err, w.answer(t, req))
	}
	if asked[0] != string(req.UID) {
		t.Errorf("shared out by %q, not by the request's UID", asked)
	}
}

func TestWaitingIsLongerTheLongerItLasts(t *testing.T) {
	p := pod()
	req := request(t, p, signer)
	req.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
	refused := &ca.UnavailableError{Err: errors.New("away")}
	w, r := newWorld(t, interceptor.Funcs{}, func(w *world) {
		i := issuerOf(t, failing{refused})
		w.Issuer = func() *issue.Issuer { return i }
	}, p, req)
	for age, want := range map[time.Duration]time.Duration{0: time.Second, 10 * time.Second: 5 * time.Second, time.Hour: 15 * time.Second} {
		w.now = req.CreationTimestamp.Add(age)
		if result, err := reconcile(t, r, req); err != nil || result.RequeueAfter != want {
			t.Errorf("after %s it is looked at again in %s, want %s: %v", age, result.RequeueAfter, want, err)
		}
	}
	for says, want := range map[time.Duration]time.Duration{20 * time.Second: 20 * time.Second, time.Hour: time.Minute} {
		refused.RetryAfter = says
		if result, err := reconcile(t, r, req); err != nil || result.RequeueAfter != want {
			t.Errorf("told to wait %s, it is looked at again in %s, want %s: %v", says, result.RequeueAfter, want, err)
		}
	}
}

func TestWhatSignsIsAskedForEachTime(t *testing.T) {
	p := pod()
	req := request(t, p, signer)
	var current *issue.Issuer
	w, r := newWorld(t, interceptor.Funcs{}, func(w *world) { w.Issuer = func() *issue.Issuer { return current } }, p, req)
	if _, err := reconcile(t, r, req); err != nil || w.answer(t, req) != "" {
		t.Fatalf("without an issuer: %v, answered %q", err, w.answer(t, req))
	}
	current = issuerOf(t, authority(t))
	if _, err := reconcile(t, r, req); err != nil || w.answer(t, req) != "Issued Issued" {
		t.Errorf("with an issuer: %v, answered %q", err, w.answer(t, req))
	}
}

// counted reads counters and the count of the histogram.
func counted(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue()
			if f.GetType() == dto.MetricType_HISTOGRAM {
				out[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return out
}
