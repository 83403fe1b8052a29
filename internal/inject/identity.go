package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	operatorv1alpha1 "github.com/openservicemesh/osm-operator/api/operator/v1alpha1"
	"github.com/openservicemesh/osm-operator/internal/identity"
	"github.com/openservicemesh/osm-operator/internal/xds/bootstrap"
)

const (
	// tokenDir and tokenFile are where the identity container finds its token.
	tokenDir  = "/var/run/osm/token" //nolint:gosec // a folder
	tokenFile = "token"
	// rootsFile holds, among the sidecar's documents, the roots that it is created with.
	rootsFile = "roots.pem"
	// tokenLifetime is that of a token in seconds; the kubelet renews it before it ends.
	tokenLifetime = 3600
)

// byToken reports whether pods prove themselves with a token, in place of the kubelet.
func (c Config) byToken() bool {
	return c.Identity == operatorv1alpha1.WorkloadIdentityServiceAccountToken
}

// identityContainer keeps the files of the sidecar's identity, in memory. It starts
// before the sidecar and ends after it, as the same user, whose traffic is not redirected.
func identityContainer(c Config) corev1.Container {
	return corev1.Container{
		Name:            IdentityContainer,
		Image:           c.OSMImage,
		ImagePullPolicy: c.PullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Args: []string{
			"identity",
			"--control-plane=" + c.ControlPlane,
			"--control-plane-id=" + c.ControlPlaneID,
			"--token=" + tokenDir + "/" + tokenFile,
			"--first-roots=" + bootstrap.Dir + "/" + rootsFile,
			"--credentials=" + bootstrap.IdentityDir + "/" + bootstrap.CredentialsFile,
			"--roots=" + bootstrap.TrustDir + "/" + bootstrap.TrustFile,
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("24Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		// The sidecar waits until there is a certificate, as long as that takes.
		StartupProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{
				"/osm", "identity", "--check",
				"--credentials=" + bootstrap.IdentityDir + "/" + bootstrap.CredentialsFile,
				"--roots=" + bootstrap.TrustDir + "/" + bootstrap.TrustFile,
			}}},
			PeriodSeconds: 1, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3600,
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: identityVolume, MountPath: bootstrap.IdentityDir},
			{Name: trustVolume, MountPath: bootstrap.TrustDir},
			{Name: bootstrapVolume, MountPath: bootstrap.Dir, ReadOnly: true},
			{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true},
		},
		SecurityContext: sidecarSecurity(),
	}
}

// sidecarSecurity is what a container of the mesh may do that goes on running: nothing.
func sidecarSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser: new(int64(ProxyUID)), RunAsGroup: new(int64(ProxyUID)), RunAsNonRoot: new(true),
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// volumes are the sidecar's identity, the roots that its control plane is verified
// with, and the files that it starts from.
func volumes(c Config) []corev1.Volume {
	mode := new(int32(0o444))
	file := func(annotation, path string) corev1.DownwardAPIVolumeFile {
		return corev1.DownwardAPIVolumeFile{Path: path, FieldRef: &corev1.ObjectFieldSelector{
			APIVersion: "v1", FieldPath: "metadata.annotations['" + annotation + "']",
		}}
	}
	documents := []corev1.DownwardAPIVolumeFile{
		file(bootstrapAnnotation, bootstrap.BootstrapFile),
		file(certificateAnnotation, bootstrap.CertificateFile),
		file(validationAnnotation, bootstrap.ValidationFile),
	}
	if c.byToken() {
		documents = append(documents, file(rootsAnnotation, rootsFile))
	}
	return append(identityVolumes(c, mode), corev1.Volume{Name: bootstrapVolume, VolumeSource: corev1.VolumeSource{
		DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultMode: mode, Items: documents},
	}})
}

// identityVolumes are what the kubelet makes and renews; or memory for the identity
// container to write to, and the token that it proves itself with.
func identityVolumes(c Config, mode *int32) []corev1.Volume {
	signer := identity.SignerName(c.Mesh)
	projected := func(name string, from corev1.VolumeProjection) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: mode, Sources: []corev1.VolumeProjection{from},
		}}}
	}
	if c.byToken() {
		memory := func(name string) corev1.Volume {
			return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
				Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("4Mi")),
			}}}
		}
		return []corev1.Volume{memory(identityVolume), memory(trustVolume), projected(tokenVolume, corev1.VolumeProjection{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: signer, ExpirationSeconds: new(int64(tokenLifetime)), Path: tokenFile},
		})}
	}
	var lifetime *int32
	if c.LeafLifetime > 0 {
		lifetime = new(int32(c.LeafLifetime.Seconds()))
	}
	return []corev1.Volume{
		projected(identityVolume, corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: signer, KeyType: "ECDSAP256", MaxExpirationSeconds: lifetime, CredentialBundlePath: bootstrap.CredentialsFile,
		}}),
		projected(trustVolume, corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
			SignerName: &signer, LabelSelector: &metav1.LabelSelector{}, Path: bootstrap.TrustFile,
		}}),
	}
}
