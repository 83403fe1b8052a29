package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/issue"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
)

// injections has pods injected, so many at once.
func injections(ctx context.Context, p *plane, t *trust, pods, atOnce int) (row, error) {
	out := row{Setup: "webhook", What: fmt.Sprintf("inject %d pods, %d at once", pods, atOnce), Events: pods, Proxies: 1}
	asks, err := newAPIServer(p, t, atOnce)
	if err != nil {
		return out, err
	}
	for range atOnce {
		if err := asks.inject(ctx); err != nil {
			return out, err
		}
	}
	cpu, err := p.cpu()
	if err != nil {
		return out, err
	}
	began := time.Now()
	took, err := asks.injectAll(ctx, pods, atOnce)
	if err != nil {
		return out, err
	}
	out.Took = time.Since(began)
	after, err := p.cpu()
	if err != nil {
		return out, err
	}
	out.CPU, out.Acked = (after-cpu)/time.Duration(pods), spreadOf(took)
	out.Note = fmt.Sprintf("%.0f pods a second; the times are from request to answer", float64(pods)/out.Took.Seconds())
	return out, nil
}

// apiServer asks the webhook as an API server does.
type apiServer struct {
	client *http.Client
	url    string
	review []byte
}

func newAPIServer(p *plane, t *trust, atOnce int) (*apiServer, error) {
	review, err := json.Marshal(reviewOf())
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: t.pool, ServerName: injectorName},
		MaxIdleConnsPerHost: atOnce,
	}}
	return &apiServer{client: client, url: "https://" + p.address("injector") + render.InjectPath, review: review}, nil
}

// inject has one pod injected.
func (s *apiServer) inject(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(s.review))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("%s: %w", raw, err)
	}
	if answer.Response == nil || !answer.Response.Allowed || len(answer.Response.Patch) == 0 {
		return fmt.Errorf("a pod was not injected: %s", raw)
	}
	return nil
}

// injectAll has so many pods injected and returns how long each took.
func (s *apiServer) injectAll(ctx context.Context, pods, atOnce int) ([]time.Duration, error) {
	var mu sync.Mutex
	took := make([]time.Duration, 0, pods)
	g := errgroup.Group{}
	g.SetLimit(atOnce)
	for range pods {
		g.Go(func() error {
			began := time.Now()
			if err := s.inject(ctx); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			return nil
		})
	}
	err := g.Wait()
	return took, err
}

// reviewOf is a pod of two containers, as a Deployment makes one.
func reviewOf() *admissionv1.AdmissionReview {
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: "web-", Namespace: namespaceName(0), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{ServiceAccountName: "web", Containers: []corev1.Container{
			{
				Name: "app", Image: "registry.example.com/app:v1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}}},
			},
			{Name: "logs", Image: "registry.example.com/logs:v1"},
		}},
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		panic(err) // a plain struct of this program
	}
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("bench"), Operation: admissionv1.Create, Namespace: namespaceName(0),
			Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object: k8sruntime.RawExtension{Raw: raw},
		},
	}
}

// signatures signs certificates as the control plane does, in this process: what it takes
// to check the request, to sign, and to check what was signed.
func signatures(ctx context.Context, t *trust, count int) (row, error) {
	out := row{Setup: "signer", What: "sign certificates of workloads", Events: count, Proxies: 1}
	issuer, err := issue.New(issue.Options{Authority: t.intermediate, TrustDomain: identity.DefaultTrustDomain})
	if err != nil {
		return out, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return out, err
	}
	pod := &issue.Pod{UID: "0f8fad5b-d9cb-469f-a165-70867728950e", ServiceAccount: "web", Node: "n1"}
	req := issue.PodRequest{Namespace: namespaceName(0), PodName: "web-1", PodUID: pod.UID, ServiceAccount: pod.ServiceAccount, Node: pod.Node, CSR: csr}
	var done atomic.Int64
	took := make([][]time.Duration, runtime.GOMAXPROCS(0))
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range took {
		g.Go(func() error {
			for done.Add(1) <= int64(count) {
				began := time.Now()
				if _, err := issuer.ForPod(ctx, req, pod); err != nil {
					return err
				}
				took[i] = append(took[i], time.Since(began))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return out, err
	}
	out.Took = time.Since(began)
	out.Acked = spreadOf(slices.Concat(took...))
	out.Note = fmt.Sprintf("%.0f a second on %d cores, in this process", float64(count)/out.Took.Seconds(), len(took))
	return out, nil
}
