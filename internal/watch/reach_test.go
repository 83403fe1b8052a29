package watch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

func refused() error {
	return &url.Error{Op: "Get", URL: "https://10.96.0.1/api/v1/pods", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
}

func TestAnAPIServerThatIsAwayIsAskedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back time.Time
		r := &Reach{}
		lw := r.patient(&toolscache.ListWatch{
			ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
				if time.Now().Before(back) {
					return nil, refused()
				}
				return &corev1.PodList{}, nil
			},
			WatchFuncWithContext: func(context.Context, metav1.ListOptions) (apiwatch.Interface, error) {
				if time.Now().Before(back) {
					return nil, io.ErrUnexpectedEOF
				}
				return apiwatch.NewFake(), nil
			},
		})
		for name, question := range map[string]func() error{
			"a list":  func() error { _, err := lw.ListWithContext(t.Context(), metav1.ListOptions{}); return err },
			"a watch": func() error { _, err := lw.WatchWithContext(t.Context(), metav1.ListOptions{}); return err },
		} {
			back = time.Now().Add(time.Hour)
			done := make(chan error, 1)
			go func() { done <- question() }()
			time.Sleep(59 * time.Minute)
			if away := r.Away(); away < 58*time.Minute {
				t.Errorf("%s: the API server is said to be away for %s", name, away)
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if late := time.Since(back); late > 5*time.Second {
				t.Errorf("%s: %s passed before the API server was asked again", name, late)
			}
			if r.Away() != 0 {
				t.Errorf("%s: the API server is said to be away though it answered", name)
			}
		}
	})
}

func TestAnEndIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		lw := (&Reach{}).patient(&toolscache.ListWatch{ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, refused() }})
		start := time.Now()
		if _, err := lw.ListWithContext(ctx, metav1.ListOptions{}); err == nil || time.Since(start) != time.Minute {
			t.Errorf("it ended after %s with %v", time.Since(start), err)
		}
	})
}

func TestUnanswered(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"connection refused": {refused(), true},
		"connection lost":    {&url.Error{Err: io.EOF}, true},
		"too busy":           {apierrors.NewTooManyRequests("later", 1), true},
		"starting":           {apierrors.NewServiceUnavailable("starting"), true},
		"its store is away":  {apierrors.NewInternalError(errors.New("etcd")), true},
		"too slow":           {apierrors.NewServerTimeout(pods, "list", 1), true},
		"too old":            {apierrors.NewResourceExpired("too old"), false},
		"gone":               {apierrors.NewGone("gone"), false}, //nolint:staticcheck // what older API servers say
		"not allowed":        {apierrors.NewForbidden(pods, "", errors.New("no")), false},
		"not installed":      {apierrors.NewNotFound(pods, ""), false},
		"anything else":      {errors.New("decoding"), false},
	} {
		if got := unanswered(tc.err); got != tc.want {
			t.Errorf("%s: unanswered is %t, want %t", name, got, tc.want)
		}
	}
}
