// Command probe is what the cluster's own test runs in pods: a server that says
// who it is, and a few questions to ask from inside.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("say serve, get, lookup, touch or cat")
	}
	verb, rest := arguments[0], arguments[1:]
	switch {
	case verb == "serve":
		return serve()
	case verb == "get" && len(rest) == 1:
		return get(ctx, rest[0])
	case verb == "lookup" && len(rest) == 1:
		addresses, err := net.DefaultResolver.LookupHost(ctx, rest[0])
		fmt.Println(addresses)
		return err
	case verb == "touch" && len(rest) == 1:
		return touchAndServe(rest[0])
	case verb == "cat":
		return cat(rest)
	}
	return fmt.Errorf("cannot %q", arguments)
}

// touchAndServe is a sidecar: it leaves a file once it is there.
func touchAndServe(path string) error {
	if err := os.WriteFile(path, []byte("here\n"), 0o644); err != nil {
		return err
	}
	return serve()
}

func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              ":" + port(),
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s seen from %s\n", name, r.RemoteAddr)
		}),
	}
	return server.ListenAndServe()
}

func port() string {
	if p := os.Getenv("PORT"); p != "" {
		return p
	}
	return "8080"
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func cat(files []string) error {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(content); err != nil {
			return err
		}
	}
	return nil
}
