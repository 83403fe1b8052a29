package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	splitv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/split/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/test/apps/books"
	"github.com/openservicemesh/osm-operator/test/apps/load"
)

func meshKind() schema.GroupVersionKind { return operatorv1alpha1.GroupVersion.WithKind("MeshList") }

func noKind(err error) bool { return meta.IsNoMatchError(err) }

// claim is one line of the table: what is said, what was counted, and whether that
// bears it out.
type claim struct {
	what, counted string
	holds         bool
}

// prove counts requests and prints the table. The error says that a claim does not hold.
func (d *demo) prove(ctx context.Context) error {
	d.say("Counting requests")
	var claims []claim
	for _, step := range []func(context.Context) ([]claim, error){
		d.buyerAndThief, d.split, d.identities, d.plaintext,
	} {
		more, err := step(ctx)
		if err != nil {
			return err
		}
		claims = append(claims, more...)
	}
	holds := d.table(claims)
	if err := d.getMesh(ctx); err != nil {
		return err
	}
	if !holds {
		return fmt.Errorf("not every claim holds")
	}
	d.next()
	return nil
}

// buyerAndThief sees the buyer served, the thief refused by policy, and the TCP back
// end reached.
func (d *demo) buyerAndThief(ctx context.Context) ([]claim, error) {
	buyer, err := d.collect(ctx, "bookbuyer", "bookbuyer", "200", 40)
	if err != nil {
		return nil, err
	}
	thief, err := d.collect(ctx, "bookthief", "bookthief", "403", 10)
	if err != nil {
		return nil, err
	}
	warehouse, err := d.collect(ctx, "bookwarehouse", "bookwarehouse", "OK", 5)
	if err != nil {
		return nil, err
	}
	return []claim{
		{"bookbuyer may call bookstore (HTTP)", calls(buyer.Calls), only(buyer.Calls, "200")},
		{"bookthief may not: 403 by policy", calls(thief.Calls), only(thief.Calls, "403")},
		{"bookwarehouse reaches mysql (TCP, server speaks first)", calls(warehouse.Calls), only(warehouse.Calls, "OK")},
	}, nil
}

// split counts who answers the buyer before and after the TrafficSplit is edited.
func (d *demo) split(ctx context.Context) ([]claim, error) {
	var out []claim
	for _, share := range []float64{90, 50} {
		if err := d.weights(ctx, share); err != nil {
			return nil, err
		}
		c, err := d.share(ctx, share)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// weights edits the TrafficSplit.
func (d *demo) weights(ctx context.Context, v1 float64) error {
	var split splitv1alpha4.TrafficSplit
	if err := d.Get(ctx, client.ObjectKey{Namespace: "bookstore", Name: "bookstore-split"}, &split); err != nil {
		return fmt.Errorf("reading the TrafficSplit: %w", err)
	}
	before := split.DeepCopy()
	for i := range split.Spec.Backends {
		split.Spec.Backends[i].Weight = v1
		if split.Spec.Backends[i].Service != "bookstore-v1" {
			split.Spec.Backends[i].Weight = 100 - v1
		}
	}
	if err := d.Patch(ctx, &split, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("editing the TrafficSplit: %w", err)
	}
	return nil
}

// share makes requests of its own from the buyer's pod, since the buyer's are few:
// first until the edit can be seen, then a counted number.
func (d *demo) share(ctx context.Context, percent float64) (claim, error) {
	const requests = 400
	pod, err := d.Pod(ctx, "bookbuyer", "bookbuyer")
	if err != nil {
		return claim{}, err
	}
	var c claim
	err = cluster.Until(ctx, fmt.Sprintf("the split %.0f/%.0f", percent, 100-percent), func(ctx context.Context) (bool, error) {
		r, err := d.Call(ctx, &pod, "-target", "http://bookstore.bookstore:14001/books-bought", "-rate", "200", "-duration", "2s", "-header", "client-app=bookbuyer")
		if err != nil {
			return false, err
		}
		v1 := int64(0)
		for identity, n := range r.Identities {
			if strings.Contains(identity, "v1") {
				v1 += n
			}
		}
		got := 100 * float64(v1) / float64(max(r.Succeeded, 1))
		c = claim{
			what:    fmt.Sprintf("TrafficSplit %.0f/%.0f, edited live", percent, 100-percent),
			counted: fmt.Sprintf("v1 %.1f %% of %d requests, %d failed", got, r.Sent, r.Failed()),
			// Five standard deviations of a fair draw.
			holds: r.Failed() == 0 && r.Sent > requests/2 && got > percent-12.5 && got < percent+12.5,
		}
		if !c.holds {
			return false, fmt.Errorf("counted: %s", c.counted)
		}
		return true, nil
	})
	return c, err
}

// identities reads the SPIFFE ids that the bookstore's sidecar verified.
func (d *demo) identities(ctx context.Context) ([]claim, error) {
	store, err := d.counted(ctx, "bookstore", "bookstore", false)
	if err != nil {
		return nil, err
	}
	seen := slices.Sorted(maps.Keys(store.Callers))
	want := "spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer"
	return []claim{{"mTLS: callers that bookstore's sidecar has verified", strings.Join(seen, ", "), slices.Contains(seen, want) && !slices.Contains(seen, "none")}}, nil
}

// plaintext calls a meshed pod from outside the mesh.
func (d *demo) plaintext(ctx context.Context) ([]claim, error) {
	pod, err := d.Pod(ctx, outsider, "outsider")
	if err != nil {
		return nil, err
	}
	r, err := d.Call(ctx, &pod, "-target", "http://bookstore.bookstore:14001/books-bought", "-rate", "10", "-duration", "2s", "-timeout", "2s")
	if err != nil {
		return nil, err
	}
	return []claim{{"plaintext from outside the mesh is refused", calls(r.Status, r.Errors), r.Sent > 0 && r.Succeeded == 0}}, nil
}

// collect has an application count anew, once its calls end in a status and in no other,
// and waits until it has counted more than so many calls.
func (d *demo) collect(ctx context.Context, namespace, app, status string, n int64) (books.Counters, error) {
	var last books.Counters
	// What was counted while the mesh was coming up says nothing.
	err := cluster.Until(ctx, app+" to see "+status, func(ctx context.Context) (bool, error) {
		c, err := d.counted(ctx, namespace, app, true)
		return err == nil && only(c.Calls, status), err
	})
	if err != nil {
		return last, err
	}
	err = cluster.Until(ctx, fmt.Sprintf("%d calls of %s", n, app), func(ctx context.Context) (bool, error) {
		var err error
		last, err = d.counted(ctx, namespace, app, false)
		if err != nil {
			return false, err
		}
		if load.Total(last.Calls) <= n {
			return false, fmt.Errorf("counted: %s", calls(last.Calls))
		}
		return true, nil
	})
	return last, err
}

func only(counts map[string]int64, status string) bool {
	for s, n := range counts {
		if s != status && n > 0 {
			return false
		}
	}
	return counts[status] > 0
}

func calls(counts ...map[string]int64) string {
	var out []string
	for _, c := range counts {
		out = append(out, load.Words(c)...)
	}
	return strings.Join(out, " ")
}

// table prints the claims and reports whether all hold.
func (d *demo) table(claims []claim) bool {
	all := true
	fmt.Fprintln(d.out)
	w := tabwriter.NewWriter(d.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CLAIM\tCOUNTED\tHOLDS")
	for _, c := range claims {
		holds := "yes"
		if !c.holds {
			holds, all = "NO", false
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.what, strings.TrimSpace(c.counted), holds)
	}
	if err := w.Flush(); err != nil {
		return false
	}
	fmt.Fprintln(d.out)
	return all
}

// getMesh runs "kubectl get mesh", once the counts are in.
func (d *demo) getMesh(ctx context.Context) error {
	var m operatorv1alpha1.Mesh
	err := cluster.Until(ctx, "the mesh to count its proxies", func(ctx context.Context) (bool, error) {
		if err := d.Get(ctx, client.ObjectKey{Name: "osm"}, &m); err != nil {
			return false, err
		}
		p := m.Status.Proxies
		return meta.IsStatusConditionTrue(m.Status.Conditions, operatorv1alpha1.ConditionReady) &&
			p != nil && p.Pods != nil && p.Connected != nil && *p.Pods == *p.Connected, nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out, "$ kubectl get mesh")
	kubectl := exec.CommandContext(ctx, "kubectl", "get", "mesh")
	kubectl.Stdout, kubectl.Stderr = d.out, d.out
	return kubectl.Run()
}

// next says what to try.
func (d *demo) next() {
	fmt.Fprintf(d.out, `
What to try next
  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl get mesh,meshrevision -o wide                 what runs
  kubectl -n osm-system get meshconfig osm-mesh-config  the mesh's configuration: edit it, it is live
  kubectl -n bookstore edit trafficsplit                other weights
  kubectl -n bookstore delete traffictarget --all       and see bookbuyer refused
  osm mesh list; osm namespace list                     the same from the CLI
  osm proxy get config_dump -n bookbuyer POD            what a sidecar does
  make demo-down                                        take everything away
`, os.Getenv("KUBECONFIG"), strings.Join(d.commands(), ":"))
}

// commands are the folders of kubectl and osm.
func (*demo) commands() []string {
	var folders []string
	for _, command := range []string{"kubectl", "bin/osm"} {
		if at, err := exec.LookPath(command); err == nil {
			if at, err = filepath.Abs(at); err == nil {
				folders = append(folders, filepath.Dir(at))
			}
		}
	}
	return folders
}

// outsideManifest is a pod outside the mesh.
const outsideManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: outsider, namespace: outside}
spec:
  selector: {matchLabels: {app: outsider}}
  template:
    metadata: {labels: {app: outsider}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: outsider
          image: docker.io/openservicemesh/bookstore-demo:v0.1.0
          imagePullPolicy: IfNotPresent
          args: [tcp-echo, -addr, ":9999"]
`
