package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/ca"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
	"github.com/openservicemesh/osm-operator/internal/testkit/cluster"
	"github.com/openservicemesh/osm-operator/internal/testkit/pki"
	"github.com/openservicemesh/osm-operator/test/apps/attack"
	"github.com/openservicemesh/osm-operator/test/apps/load"
)

// attackerManifest is a pod that holds all that an attacker could: its sidecar is left
// aside by annotation for the ports that are attacked, and the credentials of a Secret
// are in a folder. CERTIFICATE adds what it can get by itself.
const attackerManifest = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: NAME, namespace: SPACE}
---
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  namespace: SPACE
  labels: {app: NAME}
  annotations: {openservicemesh.io/outbound-port-exclusion-list: "8080,15000,15001,15003,15128"}
spec:
  serviceAccountName: NAME
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: IMAGE
      imagePullPolicy: IfNotPresent
      args: [tcp-echo, -addr, ":9999"]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        runAsNonRoot: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: forged, mountPath: /forged, readOnly: true}
        - {name: own, mountPath: /own, readOnly: true}
  volumes:
    - {name: forged, secret: {secretName: forged}}
    - name: own
      projected:
        defaultMode: 0444
        sources: [CERTIFICATE]
`

// Sources of the volume in /own.
const (
	noCertificate  = `{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}`
	podCertificate = `{podCertificate: {signerName: identity.openservicemesh.io/` + meshName + `, keyType: ECDSAP256, credentialBundlePath: credentials.pem}}`
)

// attacker makes a pod that waits for the Secret with its credentials.
func attacker(ctx context.Context, t *testing.T, ns, name, source string) *corev1.Pod {
	t.Helper()
	must(t, shared.ApplyYAML(ctx, attackerManifest, map[string]string{"NAME": name, "SPACE": ns, "IMAGE": image, "CERTIFICATE": source}))
	var pod corev1.Pod
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &pod))
	return &pod
}

// signer is what signs for the mesh's workloads now: whoever holds it can be anybody,
// so that tests can make certificates with one fault each.
func signer(ctx context.Context, t *testing.T) pki.Credentials {
	t.Helper()
	var m operatorv1alpha1.Mesh
	must(t, shared.Get(ctx, client.ObjectKey{Name: meshName}, &m))
	var secret corev1.Secret
	must(t, shared.Get(ctx, client.ObjectKey{Namespace: meshNamespace, Name: render.IssuerSecret(m.Status.Revision)}, &secret))
	chain, err := ca.ParseChain(secret.Data[corev1.TLSCertKey])
	must(t, err)
	key, err := ca.ParsePrivateKey(secret.Data[corev1.TLSPrivateKeyKey])
	must(t, err)
	return pki.Credentials{Chain: chain, Key: key.Signer()}
}

// forgeries are credentials with one fault each, and one without, for a pod that runs
// as a ServiceAccount; victim is another pod.
func forgeries(ctx context.Context, t *testing.T, account string, pod, victim *corev1.Pod) map[string]pki.Credentials {
	t.Helper()
	issuer, other := signer(ctx, t), pki.New(t)
	ns, uid := pod.Namespace, pki.PodUID(string(pod.UID))
	leaf := func(ns, account string, options ...pki.Option) pki.Credentials {
		return other.Workload(t, ns, account, append([]pki.Option{pki.By(issuer)}, options...)...)
	}
	good := leaf(ns, account, uid)
	return map[string]pki.Credentials{
		"good":            good,
		"expired":         leaf(ns, account, uid, pki.Expired()),
		"not-yet":         leaf(ns, account, uid, pki.NotYetValid()),
		"for-servers":     leaf(ns, account, uid, pki.ServerOnly()),
		"by-a-workload":   leaf(ns, account, uid, pki.By(good)),
		"by-itself":       leaf(ns, account, uid, pki.SelfSigned()),
		"other-authority": other.Workload(t, ns, account, uid),
		"other-domain":    leaf(ns, account, uid, pki.URIs("spiffe://other.local/ns/"+ns+"/sa/"+account)),
		"no-pod":          leaf(ns, account),
		"other-account":   leaf(ns, "server", uid),
		"other-pod":       leaf(ns, account, pki.PodUID(string(victim.UID))),
		"other-namespace": leaf("kube-system", "default", uid),
		"gone-pod":        leaf(ns, account, pki.PodUID("00000000-0000-4000-8000-000000000000")),
		"control-plane":   other.ControlPlane(t, meshName, "any", pki.By(issuer)),
	}
}

// hand puts credentials into the Secret that attackers wait for.
func hand(ctx context.Context, t *testing.T, ns string, all map[string]pki.Credentials) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "forged"}, Data: map[string][]byte{}}
	for name, c := range all {
		secret.Data[name+".pem"] = c.BundlePEM(t)
	}
	must(t, client.IgnoreNotFound(shared.Delete(ctx, secret.DeepCopy())))
	must(t, shared.Create(ctx, secret))
}

// asks has a pod ask the control plane for configuration.
func asks(ctx context.Context, t *testing.T, from *corev1.Pod, node string, args ...string) attack.Result {
	t.Helper()
	target := render.ControllerService + "." + meshNamespace + ":" + fmt.Sprint(render.XDSPort)
	command := append([]string{cluster.App, "attack", "-target", target, "-node", node, "-timeout", "10s"}, args...)
	out, err := shared.Exec(ctx, from.Namespace, from.Name, from.Spec.Containers[0].Name, command...)
	must(t, err)
	var r attack.Result
	must(t, json.Unmarshal([]byte(out), &r))
	return r
}

// at is a port of a pod, by its address.
func at(p *corev1.Pod, port int) string { return net.JoinHostPort(p.Status.PodIP, strconv.Itoa(port)) }

func nodeID(p *corev1.Pod) string { return string(p.UID) + "." + p.Name + "." + p.Namespace }

// battlefield is a meshed server with two pods, and attackers in the mesh and outside.
type battlefield struct {
	server           workload
	victim           *corev1.Pod
	mallory, outside *corev1.Pod
}

func newBattlefield(ctx context.Context, t *testing.T, inside, outside string) battlefield {
	t.Helper()
	namespace(ctx, t, inside, true)
	namespace(ctx, t, outside, false)
	b := battlefield{server: workload{
		namespace: inside, name: "server", replicas: 2, args: []string{"http-echo", "-addr", ":8080"}, ports: []string{"http:8080"},
	}}
	running(ctx, t, b.server)
	b.victim = podOf(ctx, t, b.server)
	b.mallory = attacker(ctx, t, inside, "mallory", podCertificate)
	b.outside = attacker(ctx, t, outside, "outsider", noCertificate)
	forged := forgeries(ctx, t, "mallory", b.mallory, b.victim)
	hand(ctx, t, inside, forged)
	hand(ctx, t, outside, forged)
	for _, p := range []*corev1.Pod{b.mallory, b.outside} {
		_, err := shared.Pod(ctx, p.Namespace, p.Name)
		must(t, err)
	}
	return b
}

// TestConfigurationIsForTheSidecarItself has a pod of the mesh, and one outside, ask the
// control plane for configuration with every kind of certificate and under every name.
func TestConfigurationIsForTheSidecarItself(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	b := newBattlefield(ctx, t, "e2e-attack-xds", "e2e-attack-xds-outside")
	own, victim := nodeID(b.mallory), nodeID(b.victim)
	const mine = "/own/credentials.pem"
	forged := func(name string) string { return "/forged/" + name + ".pem" }
	served := func(when string) {
		for _, credentials := range []string{mine, forged("good")} {
			if r := asks(ctx, t, b.mallory, own, "-credentials", credentials); r.Given() == 0 {
				t.Errorf("%s: the pod itself, with %s, got nothing: %+v", when, credentials, r)
			}
		}
	}
	// Unless this one is served, it says nothing that the others are not.
	served("before")
	for name, tc := range map[string]struct {
		node, credentials string
		code              string
	}{
		"another pod's node id":                         {victim, mine, "PermissionDenied"},
		"another pod's name":                            {string(b.mallory.UID) + "." + b.victim.Name + "." + b.victim.Namespace, mine, "PermissionDenied"},
		"another namespace":                             {string(b.mallory.UID) + "." + b.mallory.Name + ".kube-system", mine, "PermissionDenied"},
		"a node id that is none":                        {"sidecar", mine, "InvalidArgument"},
		"another account's certificate for this pod":    {own, forged("other-account"), "PermissionDenied"},
		"a certificate for another pod":                 {own, forged("other-pod"), "PermissionDenied"},
		"a certificate and a node id of another pod":    {victim, forged("other-pod"), "PermissionDenied"},
		"another namespace's certificate":               {own, forged("other-namespace"), "PermissionDenied"},
		"a certificate of a pod that is gone":           {"00000000-0000-4000-8000-000000000000.mallory." + b.mallory.Namespace, forged("gone-pod"), "PermissionDenied"},
		"a certificate that names no pod":               {own, forged("no-pod"), "Unauthenticated"},
		"the control plane's name":                      {own, forged("control-plane"), "Unauthenticated"},
		"no certificate":                                {own, "", "Unavailable"},
		"an expired certificate":                        {own, forged("expired"), "Unavailable"},
		"a certificate of tomorrow":                     {own, forged("not-yet"), "Unavailable"},
		"a certificate for servers":                     {own, forged("for-servers"), "Unavailable"},
		"a certificate of another authority":            {own, forged("other-authority"), "Unavailable"},
		"a certificate that a workload has signed":      {own, forged("by-a-workload"), "Unavailable"},
		"a certificate that vouches for itself":         {own, forged("by-itself"), "Unavailable"},
		"a certificate of another trust domain":         {own, forged("other-domain"), "Unavailable"},
		"another authority's, under another pod's name": {victim, forged("other-authority"), "Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if tc.credentials != "" {
				args = []string{"-credentials", tc.credentials}
			}
			if r := asks(ctx, t, b.mallory, tc.node, args...); r.Given() != 0 || r.Code != tc.code {
				t.Errorf("got %+v, want nothing and %s", r, tc.code)
			}
		})
	}
	t.Run("clear text", func(t *testing.T) {
		if r := asks(ctx, t, b.mallory, own, "-clear"); r.Given() != 0 || r.Code != "Unavailable" {
			t.Errorf("got %+v, want nothing", r)
		}
	})
	t.Run("from outside of the mesh", func(t *testing.T) {
		for name, args := range map[string][]string{
			"no certificate": nil, "another authority's": {"-credentials", forged("other-authority")}, "clear text": {"-clear"},
		} {
			if r := asks(ctx, t, b.outside, victim, args...); r.Given() != 0 || r.Code != "Unavailable" {
				t.Errorf("%s: got %+v, want nothing", name, r)
			}
		}
	})
	served("after")
}

// TestMeshedServicesAnswerNobodyElse calls a pod of the mesh from another one around its
// own sidecar, and from outside, with every kind of certificate.
func TestMeshedServicesAnswerNobodyElse(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	b := newBattlefield(ctx, t, "e2e-attack-mtls", "e2e-attack-mtls-outside")
	reach := func(t *testing.T, from *corev1.Pod, url, credentials string) load.Report {
		t.Helper()
		args := []string{"-target", url, "-insecure", "-keep-alive=false", "-timeout", "2s"}
		if credentials != "" {
			args = append(args, "-credentials", "/forged/"+credentials+".pem")
		}
		return call(ctx, t, from, 4, args...)
	}
	attackers := map[string]*corev1.Pod{"around its own sidecar": b.mallory, "from outside of the mesh": b.outside}
	direct, service := "https://"+at(b.victim, 8080)+"/", "https://server."+b.server.namespace+":8080/"
	for where, from := range attackers {
		t.Run(where, func(t *testing.T) {
			// The control, of the client and of the way: a certificate without a fault is served.
			allServed(t, "a good certificate", reach(t, from, direct, "good"))
			for _, credentials := range []string{"", "expired", "not-yet", "for-servers", "by-a-workload", "by-itself", "other-authority", "other-domain"} {
				for _, url := range []string{direct, service} {
					noneServed(t, credentials+" at "+url, reach(t, from, url, credentials))
				}
			}
			for _, port := range []int{15000, 15001, 15003} {
				for _, url := range []string{"https://" + at(b.victim, port) + "/", "http://" + at(b.victim, port) + "/"} {
					noneServed(t, url, reach(t, from, url, "good"))
				}
			}
			noneServed(t, "clear text", reach(t, from, "http://"+at(b.victim, 8080)+"/", ""))
			allServed(t, "a good certificate, at the end", reach(t, from, direct, "good"))
		})
	}
	t.Run("by policy", func(t *testing.T) { refusedByPolicy(ctx, t, b) })
}

// refusedByPolicy has a real certificate, which the signer gave to the attacker's own
// pod, meet policies that do not name it.
func refusedByPolicy(ctx context.Context, t *testing.T, b battlefield) {
	t.Helper()
	member := idle(b.server.namespace, "member")
	running(ctx, t, member)
	permissive(ctx, t, false)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is done by now
		defer cancel()
		permissive(ctx, t, true)
	})
	allow(ctx, t, b.server.namespace, "member", "member", "server", "/.*")
	from := podOf(ctx, t, member)
	target := "http://server." + b.server.namespace + ":8080/"
	must(t, cluster.Until(ctx, "the allowed caller to be served", func(ctx context.Context) (bool, error) {
		r, err := shared.Call(ctx, from, "-target", target, "-rate", "10", "-duration", "500ms", "-timeout", "2s")
		return err == nil && r.Sent > 0 && r.Failed() == 0, err
	}))
	direct := []string{"-target", "https://" + at(b.victim, 8080) + "/", "-insecure", "-timeout", "2s"}
	pretend := "X-Forwarded-Client-Cert=URI=" + identity.ID{
		TrustDomain: identity.DefaultTrustDomain, ServiceAccount: identity.ServiceAccount{Namespace: b.server.namespace, Name: "member"},
	}.URI()
	for name, args := range map[string][]string{
		"the signer's certificate":             {"-credentials", "/own/credentials.pem"},
		"with the header of an allowed caller": {"-credentials", "/own/credentials.pem", "-header", pretend},
	} {
		must(t, cluster.Until(ctx, name+" to be refused", func(ctx context.Context) (bool, error) {
			r, err := shared.Call(ctx, b.mallory, append([]string{"-rate", "10", "-duration", "500ms"}, append(slices.Clone(direct), args...)...)...)
			return err == nil && r.Sent > 0 && r.Status["403"] == r.Sent, err
		}))
		r := call(ctx, t, b.mallory, 25, append(slices.Clone(direct), args...)...)
		noneServed(t, name, r)
		if r.Status["403"] != r.Sent {
			t.Errorf("%s: status %v, errors %v of %d requests, want 403 for all", name, r.Status, slices.Collect(maps.Keys(r.Errors)), r.Sent)
		}
	}
	// And whoever may is served all the while.
	allServed(t, "allowed", call(ctx, t, from, 25, "-target", target))
}
