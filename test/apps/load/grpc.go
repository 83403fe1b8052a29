package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/openservicemesh/osm-operator/test/apps/echopb"
)

// pauseAfterStream is how long a worker waits before it opens a stream again.
const pauseAfterStream = 200 * time.Millisecond

// streamer is a caller that can hold a stream open.
type streamer interface {
	// stream hands every message to each, until the stream ends; the result is its end.
	stream(ctx context.Context, each func(result)) (result, error)
}

// grpcCaller calls the echo server over a connection of its own.
type grpcCaller struct {
	options Options
	dial    dialer
	conn    *grpc.ClientConn
}

// newGRPCCaller returns a caller of the echo server.
func newGRPCCaller(options Options, dial dialer) *grpcCaller {
	return &grpcCaller{options: options, dial: dial}
}

// client returns a client on the open connection, or on a new one.
func (c *grpcCaller) client() (echopb.EchoClient, error) {
	if c.conn == nil {
		conn, err := grpc.NewClient("passthrough:///"+c.options.Target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return c.dial(ctx, "tcp", address) }))
		if err != nil {
			return nil, err
		}
		c.conn = conn
	}
	return echopb.NewEchoClient(c.conn), nil
}

// outgoing adds the headers to a context.
func (c *grpcCaller) outgoing(ctx context.Context) context.Context {
	md := metadata.MD{}
	for name, values := range c.options.Headers {
		md.Append(name, values...)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// call asks once.
func (c *grpcCaller) call(ctx context.Context) (result, error) {
	client, err := c.client()
	if err != nil {
		return result{}, err
	}
	if !c.options.KeepAlive {
		defer c.close()
	}
	var header metadata.MD
	resp, err := client.Say(c.outgoing(ctx), &echopb.SayRequest{Message: c.options.Body}, grpc.Header(&header))
	return c.result(resp, header, err)
}

// result makes a result of what a call returned. A status of the server, or of a proxy
// on the way, is an answer; having reached nobody is not.
func (c *grpcCaller) result(resp *echopb.SayResponse, header metadata.MD, err error) (result, error) {
	s, ok := status.FromError(err)
	if !ok {
		return result{}, err
	}
	if unreached := unreached(s, header); unreached != nil {
		c.close() // or grpc would wait longer and longer before it connects again
		return result{}, unreached
	}
	out := result{status: s.Code().String(), identity: resp.GetIdentity(), success: s.Code() == codes.OK}
	if c.options.KeepLast {
		out.full = &Answer{Status: out.status, Headers: http.Header(header), Body: resp.String()}
		if err != nil {
			out.full.Body = s.Message()
		}
	}
	return out, nil
}

// unreached returns an error where grpc has made up the status itself, because it got no
// connection or no answer in time.
func unreached(s *status.Status, header metadata.MD) error {
	if header.Len() > 0 {
		return nil
	}
	switch {
	case s.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", s.Message(), context.DeadlineExceeded)
	case s.Code() == codes.Unavailable && strings.Contains(s.Message(), "connection refused"):
		return fmt.Errorf("%s: %w", s.Message(), errRefused)
	case s.Code() == codes.Unavailable && strings.Contains(s.Message(), "connection reset"):
		return fmt.Errorf("%s: %w", s.Message(), errReset)
	case s.Code() == codes.Unavailable && (strings.Contains(s.Message(), "EOF") || strings.Contains(s.Message(), "connection error")):
		return fmt.Errorf("%s: %w", s.Message(), io.EOF)
	}
	return nil
}

// stream watches the echo server until the stream ends.
func (c *grpcCaller) stream(ctx context.Context, each func(result)) (result, error) {
	client, err := c.client()
	if err != nil {
		return result{}, err
	}
	interval := 100 * time.Millisecond
	if c.options.Rate > 0 {
		interval = time.Duration(float64(time.Second) * float64(c.options.Concurrency) / c.options.Rate)
	}
	s, err := client.Watch(c.outgoing(ctx), &echopb.WatchRequest{Message: c.options.Body, IntervalMillis: int32(max(interval.Milliseconds(), 1))})
	if err != nil {
		return c.result(nil, nil, err)
	}
	for {
		resp, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return result{status: codes.OK.String(), success: true}, nil
		}
		if err != nil {
			header, _ := s.Header()
			return c.result(nil, header, err)
		}
		header, _ := s.Header()
		one, err := c.result(resp, header, nil)
		if err != nil {
			return result{}, err
		}
		each(one)
	}
}

// close closes the connection.
func (c *grpcCaller) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// watch holds a stream open and opens it again when it has ended, until the run is
// stopped. Every message counts as a request; the end of a stream that did not succeed
// does too.
func (l *Load) watch(ctx context.Context, s streamer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-l.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-stopped }()
	for ctx.Err() == nil {
		at := time.Now()
		end, err := s.stream(ctx, func(r result) {
			l.recorder.answered(r, time.Since(at))
			at = time.Now()
		})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.recorder.failed(err)
		case !end.success:
			l.recorder.answered(end, time.Since(at))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pauseAfterStream):
		}
	}
}
