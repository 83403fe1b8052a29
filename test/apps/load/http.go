package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
)

// dialer opens a connection.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// maxBody is how much of an answer is kept.
const maxBody = 64 << 10

// identityHeader is where servers say who they are.
const identityHeader = "Identity"

// httpCaller makes HTTP requests over a connection of its own.
type httpCaller struct {
	options   Options
	client    *http.Client
	transport *http.Transport
}

// newHTTPCaller returns a caller for HTTP/1.1, or for HTTP/2 in clear.
func newHTTPCaller(options Options, dial dialer) (*httpCaller, error) {
	target, err := url.Parse(options.Target)
	if err != nil {
		return nil, err
	}
	if target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("%q is no URL of the form http://host:port/path", options.Target)
	}
	transport := &http.Transport{
		DialContext:       dial,
		DisableKeepAlives: !options.KeepAlive,
		Protocols:         new(http.Protocols),
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: options.Insecure, //nolint:gosec // where the caller of a test server asks for it
			MinVersion:         tls.VersionTLS12,
		},
	}
	if options.Certificate != nil {
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return options.Certificate, nil }
	}
	if options.Protocol == "h2c" {
		transport.Protocols.SetUnencryptedHTTP2(true)
		transport.Protocols.SetHTTP2(true)
	} else {
		transport.Protocols.SetHTTP1(true)
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &httpCaller{options: options, client: client, transport: transport}, nil
}

// call makes one request and reads the answer to its end.
func (c *httpCaller) call(ctx context.Context) (result, error) {
	connections := 0
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections++ }})
	req, err := http.NewRequestWithContext(ctx, c.options.Method, c.options.Target, strings.NewReader(c.options.Body))
	if err != nil {
		return result{}, err
	}
	maps.Copy(req.Header, c.options.Headers)
	if host := c.options.Headers.Get("Host"); host != "" {
		req.Host = host
	}
	if !c.options.KeepAlive {
		defer c.transport.CloseIdleConnections()
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return result{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return result{}, fmt.Errorf("reading the answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return result{}, fmt.Errorf("reading the answer: %w", err)
	}
	out := result{
		status:   strconv.Itoa(resp.StatusCode),
		identity: resp.Header.Get(identityHeader),
		success:  resp.StatusCode >= 200 && resp.StatusCode < 300,
		retried:  connections > 1,
	}
	if c.options.KeepLast {
		out.full = &Answer{Status: out.status, Headers: resp.Header, Body: string(body)}
	}
	return out, nil
}

// close closes the connections.
func (c *httpCaller) close() { c.transport.CloseIdleConnections() }
