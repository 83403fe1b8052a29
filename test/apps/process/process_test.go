package process

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// start runs one listener on a free port and returns its address and a function that
// stops it and returns what Run said.
func start(t *testing.T, listener func(addr string) Listener) (address string, stop func() error) {
	t.Helper()
	l := listener("127.0.0.1:0")
	ready := make(chan string, 1)
	serve := l.Serve
	l.Serve = func(lis net.Listener) error {
		ready <- lis.Addr().String()
		return serve(lis)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, l) }()
	t.Cleanup(cancel)
	select {
	case addr := <-ready:
		return addr, func() error { cancel(); return <-ended }
	case err := <-ended:
		t.Fatalf("did not start: %v", err)
		return "", nil
	}
}

func TestHTTPFinishesOpenRequests(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, "done")
	})
	addr, stop := start(t, func(a string) Listener { return HTTP(a, handler) })

	answer := make(chan string, 1)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr, http.NoBody)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("an open request got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func TestHTTPSServesHTTP2(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	l, err := HTTPS("127.0.0.1:0", handler)
	if err != nil {
		t.Fatal(err)
	}
	addr, stop := start(t, func(string) Listener { return l })
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true},
	}
	resp, err := client.Get("https://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "HTTP/2.0" {
		t.Errorf("served %s, want HTTP/2.0", body)
	}
	client.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestTCPWaitsForItsConnections(t *testing.T) {
	t.Parallel()
	addr, stop := start(t, func(a string) Listener {
		return TCP(a, func(c net.Conn) {
			line, err := bufio.NewReader(c).ReadString('\n')
			if err == nil {
				fmt.Fprint(c, line)
			}
		})
	})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The connection is served once a byte of an earlier one has come back.
	first, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(first, "x")
	if _, err := bufio.NewReader(first).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	first.Close()

	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	fmt.Fprintln(conn, "still here")
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || got != "still here\n" {
		t.Errorf("an open connection got %q, %v", got, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestRunSaysWhichAddressIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = Run(t.Context(), HTTP("127.0.0.1:0", http.NotFoundHandler()), HTTP(taken.Addr().String(), http.NotFoundHandler()))
	if err == nil {
		t.Fatal("two listeners on one address")
	}
}
