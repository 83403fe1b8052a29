package main

import (
	"context"

	"google.golang.org/grpc"

	"github.com/openservicemesh/osm-operator/test/apps/authz"
	"github.com/openservicemesh/osm-operator/test/apps/echo"
	"github.com/openservicemesh/osm-operator/test/apps/process"
)

// runHTTPEcho runs the HTTP echo server.
func runHTTPEcho(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":8080")
	secure := a.flags.Bool("tls", false, "serve HTTPS, with a certificate that nobody trusts")
	if err := a.parse(args); err != nil {
		return err
	}
	handler := echo.NewHTTP(a.identity).Handler()
	if !*secure {
		return a.serve(ctx, []process.Listener{process.HTTP(a.addr, handler)})
	}
	l, err := process.HTTPS(a.addr, handler)
	if err != nil {
		return err
	}
	return a.serve(ctx, []process.Listener{l})
}

// runGRPCEcho runs the gRPC echo server.
func runGRPCEcho(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":9000")
	if err := a.parse(args); err != nil {
		return err
	}
	return a.serve(ctx, []process.Listener{grpcListener(a.addr, echo.NewGRPC(a.identity))})
}

// grpcListener serves gRPC; streams that are still open when the time is up are cut.
func grpcListener(addr string, s *grpc.Server) process.Listener {
	return process.Listener{
		Addr:  addr,
		Serve: s.Serve,
		Shutdown: func(ctx context.Context) error {
			cut := context.AfterFunc(ctx, s.Stop)
			defer cut()
			s.GracefulStop()
			return nil
		},
	}
}

// runAuthorizer runs the server of Envoy's external authorization.
func runAuthorizer(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":9000")
	if err := a.parse(args); err != nil {
		return err
	}
	s := authz.New(a.identity)
	return a.serve(ctx, a.withAdmin(s.AdminHandler(), grpcListener(a.addr, s.GRPC())))
}

// runWebSocketEcho runs the WebSocket echo server.
func runWebSocketEcho(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":8080")
	if err := a.parse(args); err != nil {
		return err
	}
	return a.serve(ctx, []process.Listener{process.HTTP(a.addr, echo.WebSocket(a.identity))})
}

// runTCPEcho runs the TCP echo server.
func runTCPEcho(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":9000")
	if err := a.parse(args); err != nil {
		return err
	}
	return a.serve(ctx, []process.Listener{process.TCP(a.addr, echo.TCP(a.identity))})
}
