package echo

import (
	"bufio"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/net/websocket"
)

// TCP returns a handler of connections that sends every line back, after the name of
// the server and a colon.
func TCP(identity string) func(net.Conn) {
	return func(conn net.Conn) {
		lines := bufio.NewScanner(conn)
		lines.Buffer(nil, maxBody)
		for lines.Scan() {
			if _, err := fmt.Fprintf(conn, "%s: %s\n", identity, lines.Text()); err != nil {
				return
			}
		}
	}
}

// WebSocket returns a handler that upgrades each request and sends every message back,
// after the name of the server and a colon; /healthz answers probes.
func WebSocket(identity string) http.Handler {
	// Unlike websocket.Handler, a Server with a handshake of its own takes callers that
	// are no browsers and send no origin.
	server := websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			c.Header = http.Header{IdentityHeader: {identity}}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			for {
				var message string
				if websocket.Message.Receive(ws, &message) != nil || websocket.Message.Send(ws, identity+": "+message) != nil {
					return
				}
			}
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", server)
	return mux
}
