package attest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxToken is how long a token may be; those of Kubernetes have one to two KiB.
const maxToken = 8 << 10

// What the API server says of a token that is bound to a pod.
// Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#additional-metadata-in-pod-bound-tokens
const (
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"

	userPrefix = "system:serviceaccount:"
)

// Caller is the pod that a token is bound to, as the API server has it.
type Caller struct {
	Namespace, ServiceAccount string
	Pod, PodUID               string
	// Node is empty where the API server does not say.
	Node string
}

// RefusedError says that a token proves nothing here, and that asking again with it is
// of no use.
type RefusedError struct {
	Message string
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Message }

func refused(format string, args ...any) error {
	return &RefusedError{Message: fmt.Sprintf(format, args...)}
}

// CallerOf reads the answer to a TokenReview that asked for an audience.
func CallerOf(review authenticationv1.TokenReviewStatus, audience string) (Caller, error) {
	switch {
	case !review.Authenticated:
		// The API server's words may quote the token.
		return Caller{}, refused("the API server does not believe the token: it has expired, its pod is gone, or it is for another audience")
	case !slices.Contains(review.Audiences, audience):
		return Caller{}, refused("the token is not for the audience %s", audience)
	}
	account, ok := strings.CutPrefix(review.User.Username, userPrefix)
	namespace, name, cut := strings.Cut(account, ":")
	if !ok || !cut || namespace == "" || name == "" {
		return Caller{}, refused("%q is no ServiceAccount", review.User.Username)
	}
	c := Caller{Namespace: namespace, ServiceAccount: name}
	for key, to := range map[string]*string{extraPodName: &c.Pod, extraPodUID: &c.PodUID, extraNodeName: &c.Node} {
		if values := review.User.Extra[key]; len(values) == 1 {
			*to = values[0]
		}
	}
	if c.Pod == "" || c.PodUID == "" {
		return Caller{}, refused("the token of ServiceAccount %s/%s is bound to no pod", namespace, name)
	}
	return c, nil
}

// Reviewer has the API server say who a token belongs to.
type Reviewer struct {
	Client client.Client
	// Audience is whom tokens must be for.
	Audience string
}

// Review returns the pod that a token is bound to. The error is a *RefusedError, or says
// that the API server did not answer.
func (r Reviewer) Review(ctx context.Context, token string) (Caller, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{r.Audience}}}
	if err := r.Client.Create(ctx, review); err != nil {
		return Caller{}, fmt.Errorf("reviewing a token: %w", err)
	}
	return CallerOf(review.Status, r.Audience)
}

// tokenOf returns the bearer token of a call.
func tokenOf(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", errors.New("the call needs one token")
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || token == "" || len(token) > maxToken || strings.Count(token, ".") != 2 {
		return "", errors.New("the call has no token of a ServiceAccount")
	}
	return token, nil
}
