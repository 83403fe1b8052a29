package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
)

func TestMeshFromValues(t *testing.T) {
	got, err := meshFromValues("osm", "osm-system", []string{
		"osm.enablePermissiveTrafficPolicy=false,osm.enableEgress=true",
		"osm.outboundPortExclusionList={6379,7070}",
		"osm.osmController.replicaCount=3",
		"osm.image.registry=registry.example/osm", "osm.image.tag=v1",
		"osm.certificateProvider.kind=tresor", "osm.caBundleSecretName=osm-ca-bundle", "osm.osmNamespace=mesh",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &operatorv1alpha1.Mesh{
		ObjectMeta: metav1.ObjectMeta{Name: "osm"},
		Spec: operatorv1alpha1.MeshSpec{
			Namespace: "mesh",
			CertificateAuthority: &operatorv1alpha1.CertificateAuthority{BuiltIn: &operatorv1alpha1.BuiltInAuthority{
				Secret: &operatorv1alpha1.AuthoritySecret{Namespace: "mesh", Name: "osm-ca-bundle"},
			}},
			ControlPlane: &operatorv1alpha1.ControlPlane{Replicas: 3},
			Images:       &operatorv1alpha1.Images{OSM: "registry.example/osm/osm:v1"},
			MeshConfig: &configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{
				EnablePermissiveTrafficPolicyMode: new(false), EnableEgress: new(true), OutboundPortExclusionList: []int{6379, 7070},
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("meshFromValues (-want +got):\n%s", diff)
	}
}

// TestMeshFromValuesOfVault takes Helm's values for Vault, in an order of chance.
func TestMeshFromValuesOfVault(t *testing.T) {
	got, err := meshFromValues("osm", "osm-system", []string{
		"osm.vault.host=vault.default.svc.cluster.local", "osm.vault.secret.key=token", "osm.certificateProvider.kind=vault",
		"osm.vault.port=8201,osm.vault.secret.name=osm-vault-token",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &operatorv1alpha1.CertificateAuthority{Vault: &operatorv1alpha1.VaultAuthority{
		Host: "vault.default.svc.cluster.local", Port: 8201, Protocol: "http", Role: "openservicemesh",
		Token: &operatorv1alpha1.VaultToken{SecretKeyRef: operatorv1alpha1.SecretKeyReference{Namespace: "osm-system", Name: "osm-vault-token", Key: "token"}},
	}}
	if diff := cmp.Diff(want, got.Spec.CertificateAuthority); diff != "" {
		t.Errorf("meshFromValues (-want +got):\n%s", diff)
	}
}

func TestMeshFromValuesRefuses(t *testing.T) {
	cases := map[string]struct{ set, want string }{
		"A value that went elsewhere says where":   {"osm.deployJaeger=true", "add-ons are not installed"},
		"An unknown value lists the known ones":    {"osm.nonsense=1", "osm.enableEgress"},
		"A value that is no boolean says so":       {"osm.enableEgress=maybe", "neither true nor false"},
		"A value without equals sign says how":     {"osm.enableEgress", "key=value"},
		"A bundle without a name is refused":       {"osm.caBundleSecretName=", "the name of a Secret"},
		"An authority that is not offered is told": {"osm.certificateProvider.kind=cert-manager", "not offered yet"},
		"A Vault without a host is refused":        {"osm.certificateProvider.kind=vault", "osm.vault.host"},
		"A Vault without a token is refused":       {"osm.certificateProvider.kind=vault,osm.vault.host=vault", "osm.vault.secret.name"},
		"A token in a flag is refused":             {"osm.certificateProvider.kind=vault,osm.vault.token=abcd", "write it into a Secret"},
		"A port that is none is refused":           {"osm.vault.port=70000", "not a port"},
		"Two authorities are refused":              {"osm.certificateProvider.kind=tresor,osm.vault.host=vault", "kind=vault"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := meshFromValues("osm", "osm-system", []string{tc.set})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("--set %s: error %v, want one that says %q", tc.set, err, tc.want)
			}
		})
	}
}

func TestManifestsAreComplete(t *testing.T) {
	crds, objects, err := manifests("registry.example/osm:v1")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, o := range append(crds, objects...) {
		kinds[o.GetKind()]++
		raw, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), placeholder) {
			t.Errorf("%s %s still names the placeholder image", o.GetKind(), o.GetName())
		}
	}
	for _, kind := range []string{"CustomResourceDefinition", "Namespace", "Deployment", "ClusterRole", "ValidatingWebhookConfiguration", "Service"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s among the manifests: %v", kind, kinds)
		}
	}
	if objects[0].GetKind() != "Namespace" {
		t.Errorf("the first object is a %s, but all others need the namespace", objects[0].GetKind())
	}
}
