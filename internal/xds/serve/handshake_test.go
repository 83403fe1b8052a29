package serve_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openservicemesh/osm-operator/internal/xds/serve"
)

// TestHandshakesTakeTurns has many proxies connect at once: no more of them compute than
// there are processors, and all are served.
func TestHandshakesTakeTurns(t *testing.T) {
	t.Parallel()
	most := runtime.GOMAXPROCS(0)
	proxies := 4 * most
	var mu sync.Mutex
	now, highest := 0, 0
	open := make(chan struct{})
	entered := make(chan struct{}, proxies)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var arrived atomic.Int64
	h := startOn(t, &heard{l, &arrived}, func(o *serve.Options) {
		credentials := o.Credentials
		o.Credentials = func() (serve.Credentials, error) { // called in the midst of each handshake
			mu.Lock()
			now++
			highest = max(highest, now)
			mu.Unlock()
			entered <- struct{}{}
			<-open
			mu.Lock()
			now--
			mu.Unlock()
			return credentials()
		}
	})
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	var all sync.WaitGroup
	for i := range proxies {
		p := h.pod(fmt.Sprint(i), "a")
		all.Go(func() {
			c := h.connect(t, p)
			c.ask(cds)
			c.take(t, "CDS +one")
		})
	}
	for range most {
		<-entered
	}
	// The others have to have come for their number to say something.
	for end := time.Now().Add(patience); arrived.Load() < int64(proxies); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d have come", arrived.Load(), proxies)
		}
	}
	close(open)
	all.Wait()
	if highest != most {
		t.Errorf("%d handshakes computed at once, want %d", highest, most)
	}
}

// heard counts connections of which something was read.
type heard struct {
	net.Listener
	arrived *atomic.Int64
}

func (l *heard) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hearing{Conn: conn, first: sync.OnceFunc(func() { l.arrived.Add(1) })}, nil
}

type hearing struct {
	net.Conn
	first func()
}

func (c *hearing) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.first()
	}
	return n, err
}

// TestWhoSaysNothingHoldsNobodyUp has visitors that do not go on with their handshakes.
func TestWhoSaysNothingHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.cache.SetClass("a", set(t, cluster(t, "one", "1", "")))
	for i := range 8 * runtime.GOMAXPROCS(0) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%2 == 0 {
			continue // nothing at all
		}
		// The first message, and no answer to what comes back.
		go func() {
			_ = tls.Client(&deaf{conn, t.Context().Done()}, &tls.Config{ServerName: "osm-controller"}).HandshakeContext(t.Context())
		}()
	}
	c := h.connect(t, h.pod("1", "a"))
	c.ask(cds)
	c.take(t, "CDS +one")
}

// deaf is a connection of somebody who does not read.
type deaf struct {
	net.Conn
	done <-chan struct{}
}

func (d *deaf) Read([]byte) (int, error) {
	<-d.done
	return 0, net.ErrClosed
}
