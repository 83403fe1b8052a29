// Command demo shows a mesh that carries traffic: it installs the operator and one
// Mesh on the cluster of KUBECONFIG, runs the bookstore in it, and proves routing,
// splitting, mTLS and access control with counted requests.
//
// Usage: demo up|down.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// patience is how long the whole demo may take.
const patience = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, patience)
	err := run(ctx, os.Args[1:])
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("which way: up or down?")
	}
	d, err := newDemo(os.Stdout)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return d.up(ctx)
	case "down":
		return d.down(ctx)
	default:
		return fmt.Errorf("unknown argument %q: use up or down", args[0])
	}
}
