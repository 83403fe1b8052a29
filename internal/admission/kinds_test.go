package admission_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	policyv1alpha1 "github.com/openservicemesh/osm-operator/api/policy/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/admission"
	"github.com/openservicemesh/osm-operator/internal/testkit/apiserver"
)

const (
	upstreamTrafficSetting = "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: UpstreamTrafficSetting\nspec: "
	retry                  = "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Retry\nspec: " +
		"{source: {kind: ServiceAccount, name: a, namespace: b}, destinations: [{kind: Service, name: a, namespace: b}], retryPolicy: "
)

// TestTheAPIServerRefusesWhatMeansNothing asks a real one, which says why.
func TestTheAPIServerRefusesWhatMeansNothing(t *testing.T) {
	config := apiserver.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}); err != nil {
		t.Fatal(err)
	}
	const host = "host: store.shop.svc.cluster.local"
	for name, tc := range map[string]struct {
		object string
		// want is in the answer; empty is that the object is taken.
		want string
	}{
		"a setting of all that there is": {object: upstreamTrafficSetting + "{" + host + `,
  connectionSettings: {tcp: {maxConnections: 0, connectTimeout: 1m30s}, http: {maxRequests: 4294967295, maxRequestsPerConnection: 0, maxPendingRequests: 1, maxRetries: 1}},
  rateLimit: {local: {tcp: {connections: 1, unit: second, burst: 1}, http: {requests: 1, unit: hour, responseStatusCode: 503, responseHeadersToAdd: [{name: x-a, value: b}]}}},
  httpRoutes: [{path: "/a.*", rateLimit: {local: {requests: 1, unit: minute}}}]}`},
		"a host alone":                   {object: upstreamTrafficSetting + "{" + host + "}"},
		"a host outside":                 {object: upstreamTrafficSetting + "{host: '*.example.com.'}"},
		"no host":                        {upstreamTrafficSetting + "{}", "spec.host: Required"},
		"a host with a space":            {upstreamTrafficSetting + "{host: 'store .shop.svc.cluster.local'}", "must be a full host name"},
		"a host with one label":          {upstreamTrafficSetting + "{host: store}", "must be a full host name"},
		"a host of two dots":             {upstreamTrafficSetting + "{host: store..shop}", "must be a full host name"},
		"a time without unit":            {upstreamTrafficSetting + "{" + host + ", connectionSettings: {tcp: {connectTimeout: '5'}}}", "must be a time with its unit"},
		"a time that is negative":        {upstreamTrafficSetting + "{" + host + ", connectionSettings: {tcp: {connectTimeout: -5s}}}", "must be a time with its unit"},
		"a bound that is negative":       {upstreamTrafficSetting + "{" + host + ", connectionSettings: {tcp: {maxConnections: -1}}}", "greater than or equal to 0"},
		"a bound that is too large":      {upstreamTrafficSetting + "{" + host + ", connectionSettings: {http: {maxRequests: 4294967296}}}", "less than or equal to 4294967295"},
		"a bound that is text":           {upstreamTrafficSetting + "{" + host + ", connectionSettings: {http: {maxRequests: many}}}", "must be of type integer"},
		"a rate of nothing":              {upstreamTrafficSetting + "{" + host + ", rateLimit: {local: {tcp: {connections: 0, unit: second}}}}", "greater than or equal to 1"},
		"a rate without number":          {upstreamTrafficSetting + "{" + host + ", rateLimit: {local: {tcp: {unit: second}}}}", "a rate limit needs connections and unit"},
		"a rate without unit":            {upstreamTrafficSetting + "{" + host + ", rateLimit: {local: {http: {requests: 1}}}}", "a rate limit needs requests and unit"},
		"a rate of a day":                {upstreamTrafficSetting + "{" + host + ", rateLimit: {local: {http: {requests: 1, unit: day}}}}", "Unsupported value"},
		"a status that no proxy knows":   {upstreamTrafficSetting + "{" + host + ", rateLimit: {local: {http: {requests: 1, unit: hour, responseStatusCode: 430}}}}", "Unsupported value"},
		"a header of the protocol's own": {upstreamTrafficSetting + "{" + host + ", rateLimit: {local: {http: {requests: 1, unit: hour, responseHeadersToAdd: [{name: ':status', value: a}]}}}}", "responseHeadersToAdd[0].name"},
		"a pod is asked":                 {object: upstreamTrafficSetting + "{" + host + ", healthCheck: {interval: 1s, timeout: 500ms, unhealthyThreshold: 1, healthyThreshold: 100}}"},
		"a pod is not asked":             {object: upstreamTrafficSetting + "{" + host + ", healthCheck: {mode: Disabled}}"},
		"not asked, but often":           {upstreamTrafficSetting + "{" + host + ", healthCheck: {mode: Disabled, interval: 1s}}", "where mode is Disabled nothing else has a meaning"},
		"asked somehow":                  {upstreamTrafficSetting + "{" + host + ", healthCheck: {mode: Sometimes}}", "Unsupported value"},
		"healthy after no answer":        {upstreamTrafficSetting + "{" + host + ", healthCheck: {healthyThreshold: 0}}", "greater than or equal to 1"},
		"a route without path":           {upstreamTrafficSetting + "{" + host + ", httpRoutes: [{rateLimit: {local: {requests: 1, unit: hour}}}]}", "a route needs a path"},
		"limits of a server": {object: upstreamTrafficSetting + "{" + host + `, rateLimit: {global: {
  tcp: {rateLimitService: {host: limits.example, port: 8081}, domain: a, descriptors: [{entries: [{key: a, value: b}]}], timeout: 20ms, failOpen: false},
  http: {rateLimitService: {host: 10.0.0.1, port: 8081}, domain: a, enableXRateLimitHeaders: true, responseStatusCode: 503, descriptors: [{entries: [
    {genericKey: {value: a}}, {remoteAddress: {}}, {requestHeader: {name: ":path", key: path}},
    {headerValueMatch: {value: a, expectMatch: false, headers: [{name: a, exact: b}, {name: c, present: true}]}}]}]}}},
  httpRoutes: [{path: /a, rateLimit: {global: {descriptors: [{entries: [{genericKey: {key: a, value: b}}]}]}}}]}`},
		"a server without domain":          {upstreamTrafficSetting + "{" + host + ", rateLimit: {global: {http: {rateLimitService: {host: a.b, port: 1}}}}}", "domain: Required"},
		"a server without port":            {upstreamTrafficSetting + "{" + host + ", rateLimit: {global: {http: {domain: a, rateLimitService: {host: a.b}}}}}", "port: Required"},
		"an entry that is two":             {upstreamTrafficSetting + "{" + host + ", rateLimit: {global: {http: {domain: a, rateLimitService: {host: a.b, port: 1}, descriptors: [{entries: [{genericKey: {value: a}, remoteAddress: {}}]}]}}}}", "must have at most 1 item"},
		"an entry that is none":            {upstreamTrafficSetting + "{" + host + ", rateLimit: {global: {http: {domain: a, rateLimitService: {host: a.b, port: 1}, descriptors: [{entries: [{}]}]}}}}", "at least 1 properties"},
		"a header that matches in no way":  {upstreamTrafficSetting + "{" + host + ", rateLimit: {global: {http: {domain: a, rateLimitService: {host: a.b, port: 1}, descriptors: [{entries: [{headerValueMatch: {value: a, headers: [{name: a}]}}]}]}}}}", "at least 2 properties"},
		"a connection that counts nothing": {upstreamTrafficSetting + "{" + host + ", rateLimit: {global: {tcp: {domain: a, rateLimitService: {host: a.b, port: 1}, descriptors: []}}}}", "should have at least 1 items"},
		"outliers, balancing and times": {object: upstreamTrafficSetting + "{" + host + `,
  connectionSettings: {tcp: {idleTimeout: 1h}, http: {idleTimeout: 1m, requestTimeout: 1.5s}},
  outlierDetection: {consecutiveErrors: 1, interval: 1s, baseEjectionTime: 1m, maxEjectionPercent: 100},
  loadBalancing: {policy: RoundRobin, slowStart: {window: 30s, minWeightPercent: 5}}}`},
		"hashes of a header":              {object: upstreamTrafficSetting + "{" + host + ", loadBalancing: {policy: RingHash, hashOn: {kind: Header, name: x-user}}}"},
		"hashes of who calls":             {object: upstreamTrafficSetting + "{" + host + ", loadBalancing: {policy: RingHash, hashOn: {kind: SourceIP}}}"},
		"hashes of nothing":               {upstreamTrafficSetting + "{" + host + ", loadBalancing: {policy: RingHash}}", "hashOn belongs to policy RingHash"},
		"hashes by another policy":        {upstreamTrafficSetting + "{" + host + ", loadBalancing: {hashOn: {kind: SourceIP}}}", "hashOn belongs to policy RingHash"},
		"hashes of a header without name": {upstreamTrafficSetting + "{" + host + ", loadBalancing: {policy: RingHash, hashOn: {kind: Header}}}", "needs a name"},
		"hashes and a slow start":         {upstreamTrafficSetting + "{" + host + ", loadBalancing: {policy: RingHash, hashOn: {kind: SourceIP}, slowStart: {window: 1m}}}", "slowStart has no meaning"},
		"an unknown policy":               {upstreamTrafficSetting + "{" + host + ", loadBalancing: {policy: Fair}}", "Unsupported value"},
		"more than all of the pods":       {upstreamTrafficSetting + "{" + host + ", outlierDetection: {maxEjectionPercent: 101}}", "less than or equal to 100"},
		"a retry of all that there is":    {object: retry + "{retryOn: 5xx, perTryTimeout: 1.5s, numRetries: 0, retryBackoffBaseInterval: 25ms}}"},
		"a retry of a time that is none":  {retry + "{retryOn: 5xx, perTryTimeout: soon}}", "must be a time with its unit"},
		"a retry of a number below zero":  {retry + "{retryOn: 5xx, numRetries: -1}}", "greater than or equal to 0"},
		"a retry of a wait without unit":  {retry + "{retryOn: 5xx, retryBackoffBaseInterval: '25'}}", "must be a time with its unit"},
		"a retry of no condition at all":  {retry + "{retryOn: ''}}", "retryOn"},
		"a retry without its destination": {strings.Replace(retry, "destinations", "others", 1) + "{retryOn: 5xx}}", "spec.destinations: Required"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(tc.object), &o.Object); err != nil {
				t.Fatal(err)
			}
			o.SetNamespace("shop")
			o.SetGenerateName("a-")
			err := c.Create(ctx, o)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestObjectsThatWereStoredBeforeCanBeRead has what Open Service Mesh's kinds let through:
// one that could not be read would keep all others of its kind from being read.
func TestObjectsThatWereStoredBeforeCanBeRead(t *testing.T) {
	t.Parallel()
	var setting policyv1alpha1.UpstreamTrafficSetting
	err := json.Unmarshal([]byte(`{"spec":{"host":"a b","connectionSettings":{"tcp":{"maxConnections":99999999999,"connectTimeout":"soon"}},
		"rateLimit":{"local":{"tcp":{"burst":-1},"http":{"burst":-99999999999,"responseStatusCode":599}}},"httpRoutes":[{}]}}`), &setting)
	if err != nil {
		t.Error(err)
	}
	var retry policyv1alpha1.Retry
	err = json.Unmarshal([]byte(`{"spec":{"retryPolicy":{"retryOn":"","perTryTimeout":"","numRetries":-99999999999,"retryBackoffBaseInterval":"1 s"}}}`), &retry)
	if err != nil {
		t.Error(err)
	}
}

// TestPathsThatCannotBeMatchedAreRefused asks the webhook.
func TestPathsThatCannotBeMatchedAreRefused(t *testing.T) {
	t.Parallel()
	for path, allowed := range map[string]bool{"/a/.*": true, "/(": false, "/" + strings.Repeat("a", 5000): false} {
		body, err := json.Marshal(policyv1alpha1.UpstreamTrafficSetting{Spec: policyv1alpha1.UpstreamTrafficSettingSpec{HTTPRoutes: []policyv1alpha1.HTTPRouteSpec{{Path: path}}}})
		if err != nil {
			t.Fatal(err)
		}
		_, got := send(t, &admission.Validator{}, review(t, "UpstreamTrafficSetting", "shop", body))
		if got == nil || got.Allowed != allowed {
			t.Errorf("the path %.10s: %v", path, got)
		}
	}
}
