package process

import (
	"context"
	"net"
	"sync"
)

// TCP returns a listener that hands each connection to handle, which returns when the
// connection is done; the connection is closed after it.
func TCP(addr string, handle func(net.Conn)) Listener {
	s := &tcpServer{handle: handle, open: map[net.Conn]struct{}{}}
	return Listener{Addr: addr, Serve: s.serve, Shutdown: s.shutdown}
}

// tcpServer serves raw connections.
type tcpServer struct {
	handle func(net.Conn)
	wg     sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener          // protected by mu
	open     map[net.Conn]struct{} // protected by mu
	closed   bool                  // protected by mu
}

// serve accepts until the listener is closed.
func (s *tcpServer) serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return l.Close()
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if !s.track(conn) {
			conn.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.forget(conn)
			s.handle(conn)
		})
	}
}

// track remembers an open connection; false says that it is too late for one.
func (s *tcpServer) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[conn] = struct{}{}
	return true
}

// forget closes a connection.
func (s *tcpServer) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
	conn.Close()
}

// shutdown stops accepting and waits for the connections to end; when ctx is done
// first, it closes them.
func (s *tcpServer) shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for conn := range s.open {
		conn.Close()
	}
	s.mu.Unlock()
	<-done
	return nil
}
