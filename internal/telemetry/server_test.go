package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openservicemesh/osm-operator/internal/telemetry"
)

func get(t *testing.T, client *http.Client, url string) (code int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestSite(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics, err := telemetry.NewMetrics(registry, telemetry.Build{Version: "v1"}, telemetry.Gauges{
		Queued: func() int { return 3 }, Away: func() time.Duration { return 2 * time.Second },
	})
	if err != nil {
		t.Fatal(err)
	}
	missing := errors.New("nothing has been read")
	server := httptest.NewServer(telemetry.Site{
		Ready: func() error { return missing }, Gatherer: registry, Metrics: metrics,
		Version: telemetry.Build{Version: "v1", GitCommit: "abc"}, SMI: map[string]string{"TCPRoute": "specs.smi-spec.io/v1alpha4"},
	}.Handler())
	defer server.Close()
	metrics.Event("Pod", "added", "shop")
	metrics.Admission("Pod", false)
	metrics.Code("E2005")
	metrics.Failed("class")
	metrics.Worked(2)
	metrics.Recompiled(3)
	metrics.Audited(true)
	metrics.Feature("enableEgressPolicy", true)

	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/health/alive":  {200, ""},
		"/health/ready":  {503, "nothing has been read"},
		"/version":       {200, `"commit": "abc"`},
		"/smi/version":   {200, `"TCPRoute": "specs.smi-spec.io/v1alpha4"`},
		"/debug":         {404, ""},
		"/a/b/c/unknown": {404, ""},
	} {
		if code, body := get(t, server.Client(), server.URL+path); code != want.code || !strings.Contains(body, want.body) {
			t.Errorf("%s answers %d %q, want %d %q", path, code, body, want.code, want.body)
		}
	}
	_, body := get(t, server.Client(), server.URL+"/metrics")
	for _, line := range []string{
		`osm_k8s_api_event_count{namespace="shop",type="Pod-added"} 1`,
		`osm_admission_webhook_response_total{kind="Pod",success="false"} 1`,
		`osm_error_err_code_count{err_code="E2005"} 1`,
		`osm_config_failed_count{what="class"} 1`,
		`osm_proxy_broadcast_event_count 1`,
		`osm_proxy_classes_compiled_total 3`,
		`osm_proxy_classes_audited_total{same="true"} 1`,
		`osm_resource_namespace_count 2`,
		`osm_feature_flag_enabled{feature_flag="enableEgressPolicy"} 1`,
		`osm_events_queued 3`,
		`osm_k8s_api_unreachable_seconds 2`,
		`osm_version_info{build_date="",git_commit="",version="v1"} 1`,
		`osm_http_response_total{code="503",method="GET",path="/health/ready"} 1`,
		`osm_http_response_duration_count{code="200",method="GET",path="/version"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if strings.Contains(body, "unknown") {
		t.Error("a path that a client made up is a series")
	}
	missing = nil
	if code, _ := get(t, server.Client(), server.URL+"/health/ready"); code != 200 {
		t.Errorf("/health/ready answers %d though nothing is missing", code)
	}
}

func TestDebugIsSwitched(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	d := telemetry.NewDebug(address, telemetry.Page{Path: "proxy", Show: func(r *http.Request) (any, error) {
		if r.URL.Query().Get("class") == "none" {
			return nil, errors.New("no such class")
		}
		return map[string]string{"a": "b"}, nil
	}})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 3 {
		if code, _ := get(t, client, "http://"+address+"/debug"); code != 0 {
			t.Fatalf("the server answers %d while it is off", code)
		}
		if err := errors.Join(d.Switch(t.Context(), true), d.Switch(t.Context(), true)); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"/debug": `200 "/debug/proxy"`, "/debug/proxy": `200 "a": "b"`, "/debug/proxy?class=none": "404 no such class", "/debug/pprof/goroutine?debug=1": "200 goroutine",
		} {
			code, body := get(t, client, "http://"+address+path)
			wantCode, wantBody, _ := strings.Cut(want, " ")
			if fmt.Sprint(code) != wantCode || !strings.Contains(body, wantBody) {
				t.Errorf("%s answers %d %.100q, want %s", path, code, body, want)
			}
		}
		if err := errors.Join(d.Switch(t.Context(), false), d.Switch(t.Context(), false)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- telemetry.Serve(ctx, listener, http.NotFoundHandler()) }()
	if code, _ := get(t, &http.Client{}, "http://"+listener.Addr().String()); code != 404 {
		t.Errorf("it answers %d", code)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Serve does not end")
	}
}
