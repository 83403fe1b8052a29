package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/test/apps/load"
)

// jobManifest calls a server before its application starts, and then from it.
const jobManifest = `
apiVersion: batch/v1
kind: Job
metadata: {name: NAME, namespace: SPACE}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: NAME}}
    spec:
      restartPolicy: Never
      securityContext: {runAsNonRoot: true}
      initContainers:
        - name: before
          image: IMAGE
          args: [client, -serve=false, -target, "TARGET", -rate, "50", -duration, 500ms]
      containers:
        - name: app
          image: IMAGE
          args: [client, -serve=false, -target, "TARGET", -rate, "50", -duration, 2s]
`

// TestJobEnds has a Job call a server in the mesh, from its first moment, and end: its
// sidecar ends with it.
func TestJobEnds(t *testing.T) {
	ctx := deadline(t, 3*time.Minute)
	const ns = "e2e-job"
	namespace(ctx, t, ns, true)
	running(ctx, t, workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}})
	must(t, shared.ApplyYAML(ctx, jobManifest, map[string]string{
		"NAME": "job", "SPACE": ns, "IMAGE": image, "TARGET": "http://server." + ns + ":8080/",
	}))
	must(t, cluster.Until(ctx, "the Job to end", func(ctx context.Context) (bool, error) {
		var job batchv1.Job
		if err := shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: "job"}, &job); err != nil {
			return false, err
		}
		if job.Status.Failed > 0 {
			t.Fatalf("the Job failed: %+v", job.Status)
		}
		return job.Status.Succeeded == 1, nil
	}))
	var pods corev1.PodList
	must(t, shared.List(ctx, &pods, client.InNamespace(ns), client.MatchingLabels{"app": "job"}))
	if len(pods.Items) != 1 || pods.Items[0].Status.Phase != corev1.PodSucceeded {
		t.Fatalf("the Job's pods: %+v, want one that succeeded", pods.Items)
	}
	for _, container := range []string{"before", "app"} {
		servedToTheEnd(ctx, t, pods.Items[0], container)
	}
}

// servedToTheEnd holds what a client that has ended said of its requests: it made some, and
// all were served.
func servedToTheEnd(ctx context.Context, t *testing.T, pod corev1.Pod, container string) {
	t.Helper()
	raw, err := shared.Set.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container}).DoRaw(ctx)
	must(t, err)
	var r load.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatalf("container %s of %s said %q: %v", container, pod.Name, raw, err)
	}
	if r.Sent < 20 {
		t.Errorf("container %s of %s made %d requests only", container, pod.Name, r.Sent)
	}
	allServed(t, "container "+container+" of "+pod.Name, r)
}
