package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
)

// Errors of the system that grpc hands on as text only.
const (
	errRefused = syscall.ECONNREFUSED
	errReset   = syscall.ECONNRESET
)

// tcpCaller sends lines and reads lines, over a connection of its own.
type tcpCaller struct {
	options  Options
	dial     dialer
	conn     net.Conn
	in       *bufio.Reader
	greeting string
}

// newTCPCaller returns a caller of a server that answers every line with a line.
func newTCPCaller(options Options, dial dialer) *tcpCaller {
	return &tcpCaller{options: options, dial: dial}
}

// call sends one line and waits for one. Any error closes the connection.
func (c *tcpCaller) call(ctx context.Context) (out result, err error) {
	defer func() {
		if err != nil || !c.options.KeepAlive {
			c.close()
		}
	}()
	if err := c.open(ctx); err != nil {
		return result{}, err
	}
	if _, err := fmt.Fprintln(c.conn, c.options.Body); err != nil {
		return result{}, err
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return result{}, err
	}
	line = strings.TrimSpace(line)
	out = result{status: "ok", identity: c.identity(line), success: true}
	if c.options.KeepLast {
		out.full = &Answer{Status: "ok", Body: line}
	}
	return out, nil
}

// open makes sure that there is a connection that lasts as long as ctx.
func (c *tcpCaller) open(ctx context.Context) error {
	fresh := c.conn == nil
	if fresh {
		conn, err := c.dial(ctx, "tcp", c.options.Target)
		if err != nil {
			return err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	if at, ok := ctx.Deadline(); ok {
		if err := c.conn.SetDeadline(at); err != nil {
			return err
		}
	}
	if !fresh || !c.options.Greeting {
		return nil
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("waiting for the greeting: %w", err)
	}
	c.greeting = strings.TrimSpace(line)
	return nil
}

// identity is who the server says it is: in its greeting, or before the colon of an
// echo.
func (c *tcpCaller) identity(line string) string {
	if c.options.Greeting {
		return c.greeting
	}
	name, _, ok := strings.Cut(line, ": ")
	if !ok {
		return ""
	}
	return name
}

// close closes the connection.
func (c *tcpCaller) close() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.conn, c.in = nil, nil
}

// webSocketCaller sends messages to an echo server and reads what comes back, over a
// connection of its own.
type webSocketCaller struct {
	options Options
	dial    dialer
	config  *websocket.Config
	ws      *websocket.Conn
}

// newWebSocketCaller returns a caller of a server that sends every message back after its
// own name.
func newWebSocketCaller(options Options, dial dialer) (*webSocketCaller, error) {
	target, err := url.Parse(options.Target)
	if err != nil {
		return nil, err
	}
	if target.Scheme != "ws" || target.Port() == "" {
		return nil, fmt.Errorf("%q is no URL of the form ws://host:port/path", options.Target)
	}
	config, err := websocket.NewConfig(options.Target, "http://"+target.Host)
	if err != nil {
		return nil, err
	}
	config.Header = options.Headers.Clone()
	return &webSocketCaller{options: options, dial: dial, config: config}, nil
}

// call sends one message and waits for it to come back. Any error closes the connection.
func (c *webSocketCaller) call(ctx context.Context) (out result, err error) {
	defer func() {
		if err != nil || !c.options.KeepAlive {
			c.close()
		}
	}()
	if err := c.open(ctx); err != nil {
		return result{}, err
	}
	if at, ok := ctx.Deadline(); ok {
		if err := c.ws.SetDeadline(at); err != nil {
			return result{}, err
		}
	}
	if err := websocket.Message.Send(c.ws, c.options.Body); err != nil {
		return result{}, err
	}
	var message string
	if err := websocket.Message.Receive(c.ws, &message); err != nil {
		return result{}, err
	}
	identity, text, _ := strings.Cut(message, ": ")
	out = result{status: "ok", identity: identity, success: text == c.options.Body}
	if !out.success {
		out.status = "altered"
	}
	if c.options.KeepLast {
		out.full = &Answer{Status: out.status, Body: message}
	}
	return out, nil
}

// open makes sure that there is a connection.
func (c *webSocketCaller) open(ctx context.Context) error {
	if c.ws != nil {
		return nil
	}
	conn, err := c.dial(ctx, "tcp", c.config.Location.Host)
	if err != nil {
		return err
	}
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now().Add(c.options.Timeout)
	}
	if err := conn.SetDeadline(at); err != nil {
		conn.Close()
		return err
	}
	ws, err := websocket.NewClient(c.config, conn)
	if err != nil {
		conn.Close()
		return fmt.Errorf("upgrading: %w", err)
	}
	c.ws = ws
	return nil
}

// close closes the connection.
func (c *webSocketCaller) close() {
	if c.ws != nil {
		c.ws.Close()
		c.ws = nil
	}
}
