package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	webhookSecret        = "osm-operator-webhook" //nolint:gosec // the name of a Secret
	webhookService       = "osm-operator-webhook"
	webhookConfiguration = "osm-operator"
	webhookCheck         = 30 * time.Second
	webhookRetry         = 2 * time.Second
)

// WebhookCertificate keeps the certificate of the operator's own webhook: made by the
// first replica, kept in a Secret, shared by all, and told to the API server. It
// runs on every replica.
type WebhookCertificate struct {
	Client client.Client
	Reader client.Reader
	// Namespace is where the operator runs.
	Namespace string

	current atomic.Pointer[tls.Certificate]
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica serves.
func (w *WebhookCertificate) NeedLeaderElection() bool { return false }

// TLSOptions are for the webhook server.
func (w *WebhookCertificate) TLSOptions() []func(*tls.Config) {
	return []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS13
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if certificate := w.current.Load(); certificate != nil {
				return certificate, nil
			}
			return nil, errors.New("the webhook has no certificate yet")
		}
	}}
}

// Ready is a readiness check.
func (w *WebhookCertificate) Ready(*http.Request) error {
	if w.current.Load() == nil {
		return errors.New("the webhook has no certificate yet")
	}
	return nil
}

// Start implements manager.Runnable.
func (w *WebhookCertificate) Start(ctx context.Context) error {
	log := logf.FromContext(ctx).WithName("webhook-certificate")
	for {
		wait := webhookCheck
		if err := w.ensure(ctx, time.Now()); err != nil {
			log.Error(err, "Keeping the webhook's certificate")
			wait = webhookRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (w *WebhookCertificate) ensure(ctx context.Context, now time.Time) error {
	certificate, key, err := w.load(ctx, now)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return errors.New("the webhook's certificate and key do not fit")
	}
	w.current.Store(&pair)
	return w.tell(ctx, certificate)
}

// load reads the certificate, and makes it where it is missing or due.
func (w *WebhookCertificate) load(ctx context.Context, now time.Time) (certificate, key []byte, err error) {
	name := client.ObjectKey{Namespace: w.Namespace, Name: webhookSecret}
	var secret corev1.Secret
	err = w.Reader.Get(ctx, name, &secret)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	if err == nil {
		current, parseErr := parsePair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if parseErr == nil && !due(current.certificate, now) {
			return current.certificatePEM, current.keyPEM, nil
		}
	}
	next, err := selfSigned(webhookService+"."+w.Namespace+".svc", now)
	if err != nil {
		return nil, nil, err
	}
	data := map[string][]byte{corev1.TLSCertKey: next.certificatePEM, corev1.TLSPrivateKeyKey: next.keyPEM}
	if secret.Name == "" {
		err = w.Client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name.Name, Namespace: name.Namespace}, Type: corev1.SecretTypeTLS, Data: data,
		})
	} else {
		// The resource version is in it, so that of two replicas one wins.
		secret.Data = data
		err = w.Client.Update(ctx, &secret)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("writing Secret %s: %w", name, err)
	}
	return next.certificatePEM, next.keyPEM, nil
}

// tell has the API server trust the certificate. Where the configuration is
// someone else's, as under OLM, there is none of this name and nothing to tell.
func (w *WebhookCertificate) tell(ctx context.Context, certificate []byte) error {
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	err := w.Reader.Get(ctx, client.ObjectKey{Name: webhookConfiguration}, &configuration)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading ValidatingWebhookConfiguration %s: %w", webhookConfiguration, err)
	}
	before := configuration.DeepCopy()
	changed := false
	for i := range configuration.Webhooks {
		if !bytes.Equal(configuration.Webhooks[i].ClientConfig.CABundle, certificate) {
			configuration.Webhooks[i].ClientConfig.CABundle = certificate
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if err := w.Client.Patch(ctx, &configuration, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("telling the API server of the webhook's certificate: %w", err)
	}
	return nil
}
