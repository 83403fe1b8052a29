// Package vault starts a real HashiCorp Vault, for tests of what talks to one. It needs
// OSM_TEST_VAULT to name the binary, as hack/test.sh sets it; where that is not set the test
// is skipped, and everywhere else a Vault that does not start is a failure.
package vault

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// patience is how long Vault may take to start, and to stop.
const patience = 30 * time.Second

// Server is a Vault that runs until the test ends.
type Server struct {
	// Address is its URL, which stays when it is restarted.
	Address string
	// Root is a token that may do everything.
	Root string

	binary, data, unsealKey string
	process                 *exec.Cmd
}

// Start runs a Vault, and unseals it.
func Start(tb testing.TB) *Server {
	tb.Helper()
	binary := os.Getenv("OSM_TEST_VAULT")
	if binary == "" {
		tb.Skip("OSM_TEST_VAULT is not set")
	}
	s := &Server{binary: binary, data: tb.TempDir()}
	s.start(tb, "127.0.0.1:0")
	tb.Cleanup(func() { s.Stop(tb) })
	keys, err := s.Client(tb, "").Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		tb.Fatalf("initialising Vault: %v", err)
	}
	s.Root, s.unsealKey = keys.RootToken, keys.Keys[0]
	s.Unseal(tb)
	return s
}

func (s *Server) start(tb testing.TB, address string) {
	tb.Helper()
	s.process = exec.CommandContext(context.WithoutCancel(tb.Context()), s.binary, "--address", address, "--data", s.data) //nolint:gosec // a test's own binary
	s.process.Stderr = tb.Output()
	out, err := s.process.StdoutPipe()
	if err == nil {
		err = s.process.Start()
	}
	if err != nil {
		tb.Fatalf("starting Vault: %v", err)
	}
	watchdog := time.AfterFunc(patience, func() { _ = s.process.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if !watchdog.Stop() || err != nil {
		tb.Fatalf("Vault did not start: %v", err)
	}
	s.Address = strings.TrimSpace(line)
}

// Stop ends the Vault; what it keeps stays.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if s.process == nil {
		return
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Errorf("stopping Vault: %v", err)
	}
	watchdog := time.AfterFunc(patience, func() { _ = s.process.Process.Kill() })
	if err := s.process.Wait(); err != nil {
		tb.Errorf("Vault ended with: %v", err)
	}
	watchdog.Stop()
	s.process = nil
}

// Restart ends the Vault and starts it where it was; it is sealed then.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Stop(tb)
	s.start(tb, strings.TrimPrefix(s.Address, "http://"))
}

// Seal seals the Vault.
func (s *Server) Seal(tb testing.TB) {
	tb.Helper()
	if err := s.Client(tb, s.Root).Sys().Seal(); err != nil {
		tb.Fatalf("sealing Vault: %v", err)
	}
}

// Unseal unseals the Vault.
func (s *Server) Unseal(tb testing.TB) {
	tb.Helper()
	status, err := s.Client(tb, "").Sys().Unseal(s.unsealKey)
	if err != nil || status.Sealed {
		tb.Fatalf("unsealing Vault: %+v, %v", status, err)
	}
	// It answers once it has become active.
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err = s.Client(tb, s.Root).Auth().Token().LookupSelf(); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		tb.Fatalf("Vault is unsealed and does not answer: %v", err)
	}
}

// Client speaks to the Vault with a token.
func (s *Server) Client(tb testing.TB, token string) *api.Client {
	tb.Helper()
	config := api.DefaultConfig()
	config.Address, config.MaxRetries = s.Address, 0
	client, err := api.NewClient(config)
	if err != nil {
		tb.Fatal(err)
	}
	client.SetToken(token)
	return client
}

// Write writes as the administrator.
func (s *Server) Write(tb testing.TB, path string, data map[string]any) *api.Secret {
	tb.Helper()
	secret, err := s.Client(tb, s.Root).Logical().Write(path, data)
	if err != nil {
		tb.Fatalf("writing %s: %v", path, err)
	}
	return secret
}

// MountPKI mounts a PKI engine with a root of its own, or with what a further option says.
func (s *Server) MountPKI(tb testing.TB, mount string, root map[string]any) {
	tb.Helper()
	input := &api.MountInput{Type: "pki", Config: api.MountConfigInput{MaxLeaseTTL: "87600h"}}
	if err := s.Client(tb, s.Root).Sys().Mount(mount, input); err != nil {
		tb.Fatalf("mounting %s: %v", mount, err)
	}
	if root == nil {
		root = map[string]any{"common_name": "root of " + mount, "key_type": "ec", "key_bits": 256, "ttl": "87600h"}
	}
	root["not_before_duration"] = "1h" // as one that has been there for a while
	s.Write(tb, mount+"/root/generate/internal", root)
}

// Policy is what the documentation has an administrator write for the mesh: no more is
// needed than is here.
func (s *Server) Policy(tb testing.TB, name, mount, role string) {
	tb.Helper()
	leaf := mount + "/sign-verbatim"
	if role != "" {
		leaf += "/" + role
	}
	policy := `path "` + mount + `/root/sign-intermediate" { capabilities = ["update"] }` + "\n" +
		`path "` + leaf + `" { capabilities = ["update"] }`
	if err := s.Client(tb, s.Root).Sys().PutPolicy(name, policy); err != nil {
		tb.Fatalf("writing policy %s: %v", name, err)
	}
}

// Token returns a token with policies and Vault's default one.
func (s *Server) Token(tb testing.TB, ttl string, policies ...string) string {
	tb.Helper()
	secret, err := s.Client(tb, s.Root).Auth().Token().Create(&api.TokenCreateRequest{Policies: append([]string{"default"}, policies...), TTL: ttl, NoParent: true})
	if err != nil {
		tb.Fatalf("making a token: %v", err)
	}
	return secret.Auth.ClientToken
}
