package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openservicemesh/osm-operator/test/apps/attack"
)

// runAttack asks a control plane for configuration once, and prints what it gave, as JSON.
func runAttack(ctx context.Context, a *app, args []string) error {
	var o attack.Options
	f := a.flags
	f.StringVar(&o.Target, "target", "", "`host:port` of the control plane")
	f.StringVar(&o.Node, "node", "", "`id` to go by, of the form <pod UID>.<pod name>.<namespace>")
	path := f.String("credentials", "", "`file` with the key and the certificate to show; none without it")
	f.BoolVar(&o.Clear, "clear", false, "speak without TLS")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "how `long` to wait for an answer")
	if err := a.parse(args); err != nil {
		return err
	}
	if o.Target == "" {
		return errors.New("no target")
	}
	var err error
	if o.Certificate, err = readCredentials(*path); err != nil {
		return err
	}
	result, err := attack.Run(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(a.out).Encode(result)
}

// readCredentials reads a key and a certificate from one file; without a path there are none.
func readCredentials(path string) (*tls.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path) //nolint:gosec // whoever runs a test application says what it reads
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key with its certificate", path) // the cause could quote the key
	}
	return &pair, nil
}
