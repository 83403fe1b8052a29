package serve_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestAbuseOfHTTP2 lets a pod with a good certificate misuse the transport: its own
// connection ends or is slowed, and the others are served all the time.
func TestAbuseOfHTTP2(t *testing.T) { //nolint:tparallel // the subtests follow one another
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, route("r", "0")))
	good := h.connect(t, h.pod("1", "a"))
	good.ask(rds, "r")
	good.take(t, "RDS +r")

	t.Run("pings without end close the connection", func(t *testing.T) {
		f := h.frames(t)
		for {
			if err := f.WritePing(false, [8]byte{1}); err != nil {
				return
			}
		}
	})
	t.Run("headers without end close the connection", func(t *testing.T) {
		f := h.frames(t)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("x", "y")}); err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			if err := f.WriteContinuation(1, false, headers(fmt.Sprintf("x-filler-%d", i), "y")); err != nil {
				return
			}
		}
	})
	t.Run("streams that are reset at once delay nobody", func(t *testing.T) {
		f := h.frames(t)
		request := headers(":method", "POST", ":scheme", "https", ":authority", "x", ":path",
			"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", "content-type", "application/grpc", "te", "trailers")
		for i := range 20_000 {
			id := uint32(2*i + 1)
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: request, EndHeaders: true}); err != nil {
				break
			}
			if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				break
			}
			if i%1000 == 0 {
				h.cache.SetClass("a", set(t, route("r", fmt.Sprint("version ", i))))
				if i > 0 {
					good.take(t, "RDS +r")
				} else {
					good.ack(good.next(t))
				}
			}
		}
	})
	h.cache.SetClass("a", set(t, route("r", "last")))
	good.take(t, "RDS +r")
	wait(t, "only the good one is connected", func() bool { return len(h.server.Proxies()) == 1 })
}

// frames opens a connection of bare frames; what comes back is thrown away.
func (h *harness) frames(t *testing.T) *http2.Framer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	certificate := h.ca.workload(t, h.pod("666", "a"))
	conn, err := (&tls.Dialer{Config: &tls.Config{
		RootCAs: h.ca.pool(), ServerName: "osm-controller", Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"},
	}}).DialContext(ctx, "tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(failing{t, conn}, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	}()
	return f
}

// failing is a connection whose deadline fails the test: the server let it go on.
type failing struct {
	t *testing.T
	net.Conn
}

func (f failing) Write(b []byte) (int, error) {
	n, err := f.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		f.t.Error("the connection was not closed")
	}
	return n, err
}

func headers(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b.Bytes()
}
