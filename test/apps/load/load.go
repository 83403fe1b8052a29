package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options say what to call and how.
type Options struct {
	// Protocol is http, h2c (HTTP/2 in clear), grpc, ws or tcp.
	Protocol string
	// Target is a URL for http, h2c and ws; host:port for grpc and tcp.
	Target string
	// Rate is how many requests are started each second, by all workers together; 0 is
	// as many as they can.
	Rate float64
	// Concurrency is the number of workers.
	Concurrency int
	// Duration ends the run; 0 sets no limit.
	Duration time.Duration
	// Requests ends the run after so many; 0 sets no limit.
	Requests int
	// Timeout is how long each request may take.
	Timeout time.Duration
	// KeepAlive uses a connection again; otherwise each request opens one.
	KeepAlive bool
	// Method, Headers and Body are those of HTTP requests; Headers go with gRPC and
	// WebSocket calls too, Body is the message of the other protocols.
	Method  string
	Headers http.Header
	Body    string
	// Stream has every gRPC worker hold one stream open and counts its messages.
	Stream bool
	// Greeting has every TCP connection wait for the server to speak first.
	Greeting bool
	// KeepLast puts the last answer into the report, in full.
	KeepLast bool
	// Insecure does not verify the server's certificate.
	Insecure bool
	// Certificate is shown to a server that asks for one, whatever it says that it takes.
	Certificate *tls.Certificate
}

// result is one answer.
type result struct {
	status   string
	identity string
	success  bool
	retried  bool
	full     *Answer
}

// caller makes requests for one worker. The error of call says that there was no answer.
type caller interface {
	call(ctx context.Context) (result, error)
	close()
}

// Load is one run.
type Load struct {
	options  Options
	recorder *recorder
	stop     chan struct{}
	stopOnce sync.Once
}

// New returns a run that has not started, or says what is wrong with the options.
func New(options Options) (*Load, error) {
	if options.Target == "" {
		return nil, errors.New("no target")
	}
	if options.Concurrency < 1 || options.Timeout <= 0 || options.Rate < 0 || options.Requests < 0 {
		return nil, errors.New("concurrency and timeout must be over 0, rate and requests not under 0")
	}
	l := &Load{options: options, recorder: newRecorder(options.Protocol, options.Target), stop: make(chan struct{})}
	c, err := l.newCaller()
	if err != nil {
		return nil, err
	}
	c.close()
	return l, nil
}

// newCaller returns a caller for the protocol.
func (l *Load) newCaller() (caller, error) {
	switch l.options.Protocol {
	case "http", "h2c":
		return newHTTPCaller(l.options, l.dial)
	case "grpc":
		return newGRPCCaller(l.options, l.dial), nil
	case "ws":
		return newWebSocketCaller(l.options, l.dial)
	case "tcp":
		return newTCPCaller(l.options, l.dial), nil
	default:
		return nil, fmt.Errorf("unknown protocol %q: use http, h2c, grpc, ws or tcp", l.options.Protocol)
	}
}

// dial opens a connection and counts it.
func (l *Load) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		l.recorder.connected()
	}
	return conn, err
}

// Run makes requests until ctx is done, the duration is over or Stop was called. What is
// under way then is finished and counted.
func (l *Load) Run(ctx context.Context) (Report, error) {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.options.Duration > 0 {
		work, cancel = context.WithTimeout(work, l.options.Duration)
		defer cancel()
	}
	stopped := context.AfterFunc(work, l.Stop)
	defer stopped()

	due := make(chan struct{}, l.options.Concurrency)
	var wg sync.WaitGroup
	for range l.options.Concurrency {
		c, err := l.newCaller()
		if err != nil {
			l.Stop()
			wg.Wait()
			return Report{}, err
		}
		wg.Go(func() {
			defer c.close()
			if s, ok := c.(streamer); ok && l.options.Stream {
				l.watch(ctx, s)
				return
			}
			l.work(ctx, c, due)
		})
	}
	l.pace(due)
	wg.Wait()
	return l.Report(), nil
}

// pace says when a request is due, until the run is stopped; then it closes due.
func (l *Load) pace(due chan<- struct{}) {
	defer close(due)
	if l.options.Stream {
		<-l.stop
		return
	}
	limit := cmp.Or(l.options.Requests, math.MaxInt)
	if l.options.Rate == 0 {
		for range limit {
			select {
			case <-l.stop:
				return
			case due <- struct{}{}:
			}
		}
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / l.options.Rate))
	defer ticker.Stop()
	for range limit {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		select {
		case due <- struct{}{}:
		default:
			l.recorder.missed()
		}
	}
}

// work makes requests as they become due. A request that has begun is not cancelled by
// the end of the run.
func (l *Load) work(ctx context.Context, c caller, due <-chan struct{}) {
	for range due {
		select {
		case <-l.stop:
			return
		default:
		}
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.options.Timeout)
		start := time.Now()
		a, err := c.call(one)
		cancel()
		if err != nil {
			l.recorder.failed(err)
			continue
		}
		l.recorder.answered(a, time.Since(start))
	}
}

// Stop ends the run; requests that have begun are finished.
func (l *Load) Stop() { l.stopOnce.Do(func() { close(l.stop) }) }

// Report returns what was counted so far.
func (l *Load) Report() Report { return l.recorder.snapshot(false) }

// Handler answers GET /counters with the report, POST /reset with the report until then,
// after which counting begins anew, POST /stop and GET /healthz.
func (l *Load) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /counters", func(w http.ResponseWriter, _ *http.Request) { writeReport(w, l.Report()) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) { writeReport(w, l.recorder.snapshot(true)) })
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		l.Stop()
		writeReport(w, l.Report())
	})
	return mux
}

// writeReport answers with a report.
func writeReport(w http.ResponseWriter, r Report) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(r); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
