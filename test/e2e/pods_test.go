package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
)

// podsManifest has a StatefulSet, whose pods have names of their own, and a pod with a port
// of its node and one that is left out of redirection. None declares the port that it serves
// on but where the node's is for it.
const podsManifest = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: db, namespace: SPACE}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: SPACE}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      serviceAccountName: db
      containers: [{name: app, image: IMAGE, imagePullPolicy: IfNotPresent, args: [http-echo, -addr, ":8080"]}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: SPACE}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: host, namespace: SPACE}
spec:
  selector: {matchLabels: {app: host}}
  template:
    metadata:
      labels: {app: host}
      annotations: {openservicemesh.io/inbound-port-exclusion-list: "8082"}
    spec:
      containers:
        - name: app
          image: IMAGE
          imagePullPolicy: IfNotPresent
          args: [http-echo, -addr, ":8080"]
          ports: [{containerPort: 8080, hostPort: 31880}]
        - name: open
          image: IMAGE
          imagePullPolicy: IfNotPresent
          args: [http-echo, -addr, ":8082", -admin, ""]
          ports: [{containerPort: 8082, hostPort: 31882}]
---
apiVersion: v1
kind: Service
metadata: {name: host, namespace: SPACE}
spec:
  selector: {app: host}
  ports: [{name: http, port: 8080}]
`

// TestPodsOfEveryKind calls the pods of a StatefulSet by their names, Services that share
// pods and ports, and a pod with ports of its node, of which one is left out.
func TestPodsOfEveryKind(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const ns, outside = "e2e-pods", "e2e-pods-out"
	namespace(ctx, t, ns, true)
	namespace(ctx, t, outside, false)
	caller, stranger := idle(ns, "caller"), idle(outside, "stranger")
	store := workload{namespace: ns, name: "store", args: []string{"http-echo", "-addr", ":8080", "-identity", "store"}, ports: []string{"http:8080"}}
	must(t, shared.ApplyYAML(ctx, podsManifest, map[string]string{"SPACE": ns, "IMAGE": image}))
	running(ctx, t, caller, stranger, store)
	must(t, shared.Deployment(ctx, ns, "host"))
	from := podOf(ctx, t, caller)

	t.Run("a StatefulSet by names of its pods", func(t *testing.T) {
		for _, name := range []string{"db-0", "db-1"} {
			target := "http://" + name + ".db." + ns + ".svc.cluster.local:8080/"
			served(ctx, t, from, name, "-target", target)
			r := call(ctx, t, from, 25, "-target", target)
			allServed(t, name, r)
			if r.Identities[name] != r.Sent {
				t.Errorf("%s was asked for, and %v answered", name, r.Identities)
			}
		}
	})
	t.Run("Services that share pods and a port", func(t *testing.T) {
		service(ctx, t, ns, "same", "store", false, "http:8080")
		service(ctx, t, ns, "bytes", "store", false, "tcp-a:8080")
		for _, name := range []string{"store", "same", "bytes"} {
			target := "http://" + name + "." + ns + ":8080/"
			served(ctx, t, from, name, "-target", target)
			r := call(ctx, t, from, 25, "-target", target)
			allServed(t, name, r)
			if r.Identities["store"] != r.Sent {
				t.Errorf("%s was asked for, and %v answered", name, r.Identities)
			}
		}
	})
	t.Run("a pod with ports of its node", func(t *testing.T) {
		pod, err := shared.Pod(ctx, ns, "host")
		must(t, err)
		for i, want := range []int32{31880, 31882} {
			if ports := pod.Spec.Containers[i].Ports; len(ports) != 1 || ports[0].HostPort != want {
				t.Errorf("the ports of container %d are %v, want the node's %d", i, ports, want)
			}
		}
		served(ctx, t, from, "its Service", "-target", "http://host."+ns+":8080/")
		// What comes by the node's port comes to the pod's, from outside of the mesh.
		out := podOf(ctx, t, stranger)
		noneServed(t, "in clear", call(ctx, t, out, 10, "-target", "http://"+at(&pod, 8080)+"/", "-timeout", "2s"))
		allServed(t, "where it is left out", call(ctx, t, out, 10, "-target", "http://"+at(&pod, 8082)+"/"))
	})
}

const cronJobManifest = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: NAME, namespace: SPACE}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        metadata: {labels: {app: NAME}}
        spec:
          restartPolicy: Never
          securityContext: {runAsNonRoot: true}
          containers:
            - name: app
              image: IMAGE
              args: [client, -serve=false, -target, "TARGET", -rate, "50", -duration, 1s]
`

// TestCronJobsEnd has a CronJob run: its Job calls a server in the mesh, ends with its
// sidecar, and is counted as done.
func TestCronJobsEnd(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	const ns = "e2e-cron"
	namespace(ctx, t, ns, true)
	running(ctx, t, workload{namespace: ns, name: "server", args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"}})
	must(t, shared.ApplyYAML(ctx, cronJobManifest, map[string]string{
		"NAME": "cron", "SPACE": ns, "IMAGE": image, "TARGET": "http://server." + ns + ":8080/",
	}))
	must(t, cluster.Until(ctx, "a Job of the CronJob to end", func(ctx context.Context) (bool, error) {
		var jobs batchv1.JobList
		if err := shared.List(ctx, &jobs, client.InNamespace(ns)); err != nil {
			return false, err
		}
		for _, job := range jobs.Items {
			if job.Status.Failed > 0 {
				t.Fatalf("the Job failed: %+v", job.Status)
			}
			if job.Status.Succeeded == 1 {
				return true, nil
			}
		}
		return false, fmt.Errorf("of %d Jobs none has ended", len(jobs.Items))
	}))
	var pods corev1.PodList
	must(t, shared.List(ctx, &pods, client.InNamespace(ns), client.MatchingLabels{"app": "cron"}))
	for _, pod := range pods.Items {
		if pod.Status.Phase != corev1.PodSucceeded {
			continue
		}
		servedToTheEnd(ctx, t, pod, "app")
		return
	}
	t.Errorf("none of %d pods succeeded", len(pods.Items))
}
