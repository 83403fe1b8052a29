package cmd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"github.com/openservicemesh/osm-operator/internal/attest/agent"
	"github.com/openservicemesh/osm-operator/internal/plan/render"
)

// identityOptions are the flags of "osm identity".
type identityOptions struct {
	host, serverID, token, firstRoots string
	port                              int
	files                             agent.Files
	check                             bool
}

// newIdentityCommand returns the verb that runs in each pod of a mesh whose cluster gives
// pods no certificates: it keeps the files of the sidecar's identity.
func newIdentityCommand() *cobra.Command {
	var o identityOptions
	c := &cobra.Command{
		Use: "identity", Short: "Keep the certificate of a pod's sidecar (in a pod)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.check {
				if !o.files.Complete() {
					return errors.New("there is no certificate yet")
				}
				return nil
			}
			log := logr.FromSlogHandler(slog.NewJSONHandler(c.ErrOrStderr(), nil))
			roots, err := os.ReadFile(o.firstRoots)
			if err != nil {
				return fmt.Errorf("reading the roots that the pod was created with: %w", err)
			}
			return agent.Run(logr.NewContext(c.Context(), log), agent.Options{
				Target: net.JoinHostPort(o.host, strconv.Itoa(o.port)), ServerID: o.serverID,
				TokenFile: o.token, Files: o.files, FirstRoots: roots,
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.host, "control-plane", "", "host of the control plane")
	flags.IntVar(&o.port, "port", render.IdentityPort, "port of the control plane")
	flags.StringVar(&o.serverID, "control-plane-id", "", "SPIFFE ID that the control plane must have")
	flags.StringVar(&o.token, "token", "", "file with the pod's token")
	flags.StringVar(&o.firstRoots, "first-roots", "", "file with the roots that the control plane is verified with at first")
	flags.StringVar(&o.files.Credentials, "credentials", "", "file to keep the key and the certificate in")
	flags.StringVar(&o.files.Roots, "roots", "", "file to keep the roots in")
	flags.BoolVar(&o.check, "check", false, "only tell, by the exit code, whether the files are there")
	return c
}
