// Package main is a Vault for tests: the real core, with what issues certificates and the
// logins that the mesh uses, and its storage in a folder, so that it can be restarted. It
// prints its address and serves until it is stopped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/pki"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen")
	data := flag.String("data", "", "the folder with what it keeps")
	flag.Parse()
	if err := run(*address, *data); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, data string) error {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Warn, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": data}, log)
	if err != nil {
		return fmt.Errorf("opening %s: %w", data, err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	engines := map[string]logical.Factory{"pki": pki.Factory}
	logins := map[string]logical.Factory{"approle": approle.Factory, "kubernetes": kubernetes.Factory}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, Logger: log, DisableMlock: true, RedirectAddr: "http://" + listener.Addr().String(),
		LogicalBackends: engines, CredentialBackends: logins,
		BuiltinRegistry: registry{consts.PluginTypeSecrets: engines, consts.PluginTypeCredential: logins},
	})
	if err != nil {
		return fmt.Errorf("starting the core: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Println("http://" + listener.Addr().String())
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = server.Close()
	}
	return errors.Join(err, core.Shutdown())
}

// registry tells Vault which plugins it has.
type registry map[consts.PluginType]map[string]logical.Factory

// Contains implements vault.BuiltinRegistry, as the methods below.
func (r registry) Contains(name string, kind consts.PluginType) bool {
	_, ok := r[kind][name]
	return ok
}

// Get returns a plugin.
func (r registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	factory, ok := r[kind][name]
	return func() (any, error) { return factory, nil }, ok
}

// Keys returns the names of all plugins of a kind.
func (r registry) Keys(kind consts.PluginType) []string {
	return slices.Sorted(maps.Keys(r[kind]))
}

// DeprecationStatus says that all are supported.
func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

// IsBuiltinEntPlugin says that none is of Vault Enterprise.
func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
