package serve

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	// handshakePatience is how long a proxy may keep the server waiting while it connects.
	handshakePatience = 10 * time.Second
	// handshakeTimeout is how long it may take altogether, with the time in which it waits
	// for its turn.
	handshakeTimeout = 30 * time.Second
)

// handshakes makes connections.
//
// When all proxies connect at once, as after a restart, their handshakes would take all
// the time there is, and proxies that are connected already would not hear of changes
// until the last was done. So only as many compute at once as there are processors, the
// others in the order in which they came; nobody is refused. As proxies come in no faster
// than that, what they are sent first is spread over time as well. A handshake that waits
// for the other side keeps nobody from anything.
type handshakes struct {
	credentials.TransportCredentials
	turns chan struct{} // holds one for each handshake that computes
}

func newHandshakes(current func() (Credentials, error)) handshakes {
	return handshakes{turns: make(chan struct{}, runtime.GOMAXPROCS(0)), TransportCredentials: credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := current()
			if err != nil {
				return nil, fmt.Errorf("reading the server's certificate: %w", err)
			}
			if c.Roots == nil {
				// Without a pool, the system's would be believed.
				return nil, fmt.Errorf("no roots to verify proxies with")
			}
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{c.Certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    c.Roots,
				NextProtos:   []string{"h2"},
				// Every connection shows its certificate: one that was good once may not be now.
				SessionTicketsDisabled: true,
			}, nil
		},
	})}
}

// ServerHandshake keeps the connection beside what it was authenticated by.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	visit := &greeting{Conn: raw, turns: h.turns}
	conn, info, err := h.TransportCredentials.ServerHandshake(visit)
	visit.end()
	if err != nil {
		return nil, nil, err
	}
	of, ok := info.(credentials.TLSInfo)
	if !ok {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("a handshake without TLS: %T", info)
	}
	return conn, connection{TLSInfo: of, line: &line{conn: raw}}, nil
}

// Clone implements credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.turns}
}

// greeting is a connection that holds a turn during its handshake, but for the time in
// which it waits for the other side. That time is limited.
type greeting struct {
	net.Conn
	turns chan struct{}
	over  atomic.Bool
	// The handshake's alone: whether it holds a turn, and how long it has waited for the
	// other side.
	holds  bool
	waited time.Duration
}

// Read implements net.Conn.
func (g *greeting) Read(b []byte) (int, error) {
	if g.over.Load() {
		return g.Conn.Read(b)
	}
	g.give()
	began := time.Now()
	if err := g.Conn.SetReadDeadline(began.Add(handshakePatience - g.waited)); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(b)
	g.waited += time.Since(began)
	if err != nil {
		return n, err
	}
	return n, g.take()
}

func (g *greeting) take() error {
	patience := time.NewTimer(handshakeTimeout)
	defer patience.Stop()
	select {
	case g.turns <- struct{}{}:
		g.holds = true
		return nil
	case <-patience.C:
		return fmt.Errorf("waiting for a turn: %w", os.ErrDeadlineExceeded)
	}
}

func (g *greeting) give() {
	if g.holds {
		g.holds = false
		<-g.turns
	}
}

// end is called once the handshake has ended, however that was. What the other side says
// next is awaited as long; it is gRPC that ends that wait.
func (g *greeting) end() {
	g.over.Store(true)
	g.give()
	_ = g.SetReadDeadline(time.Now().Add(handshakePatience)) // of a connection that is closed there is none
}
