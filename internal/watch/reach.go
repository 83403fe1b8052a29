package watch

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// The wait before an API server that is away is asked again. Informers by themselves
// wait up to a minute, and for that long a change would not be seen once it is back.
const leastWait, mostWait = time.Second, 3 * time.Second

// Reach asks for objects until the API server answers, and tells since when it has
// not. It is safe for concurrent use.
type Reach struct {
	mu sync.Mutex
	// Protected by mu; zero while it answers.
	away time.Time
}

// Away returns for how long the API server has not answered; 0 while it does.
func (r *Reach) Away() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away.IsZero() {
		return 0
	}
	return time.Since(r.away)
}

// note takes the outcome of a question.
func (r *Reach) note(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := logr.FromContextOrDiscard(ctx)
	switch {
	case err != nil && r.away.IsZero():
		r.away = time.Now()
		log.Error(err, "Going on with what is known: the API server does not answer")
	case err == nil && !r.away.IsZero():
		log.Info("The API server answers again", "after", time.Since(r.away).Round(time.Millisecond).String())
		r.away = time.Time{}
	}
}

// informer makes an informer that asks patiently.
func (r *Reach) informer(lw toolscache.ListerWatcher, o runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	return toolscache.NewSharedIndexInformer(r.patient(lw), o, resync, indexers)
}

// patient asks again where the API server does not answer. Any answer, a refusal
// included, is the informer's.
func (r *Reach) patient(lw toolscache.ListerWatcher) *toolscache.ListWatch {
	from := toolscache.ToListerWatcherWithContext(lw)
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return ask(ctx, r, func() (runtime.Object, error) { return from.ListWithContext(ctx, o) })
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			return ask(ctx, r, func() (apiwatch.Interface, error) { return from.WatchWithContext(ctx, o) })
		},
	}
}

func ask[T any](ctx context.Context, r *Reach, question func() (T, error)) (T, error) {
	for {
		answer, err := question()
		if err == nil || !unanswered(err) {
			r.note(ctx, nil)
			return answer, err
		}
		if ctx.Err() != nil {
			return answer, err
		}
		r.note(ctx, err)
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(leastWait + rand.N(mostWait-leastWait)): //nolint:gosec // jitter needs no secrecy
		}
	}
}

// unanswered reports whether an error says that the API server is away or overwhelmed,
// rather than what it thinks of the question.
func unanswered(err error) bool {
	if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		return apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) ||
			apierrors.IsTimeout(err) || apierrors.IsInternalError(err)
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
