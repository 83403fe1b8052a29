package cmd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openservicemesh/osm-operator/internal/redirect"
)

// Where the sidecar finds its application, in MeshConfig's words.
const (
	localProxyLocalhost = "Localhost"
	localProxyPodIP     = "PodIP"
)

// initOptions are the flags of "osm init".
type initOptions struct {
	proxyUID                     uint32
	inboundPorts, outboundPorts  []string
	outboundRanges, outboundOnly []string
	interfaces, podIPs           []string
	localProxyMode               string
	// show prints the rules, and remove takes them away; neither redirects.
	show, remove bool
}

// newInitCommand returns the verb that runs once in each pod of the mesh, before its
// application: it redirects the pod's traffic to the sidecar and ends. It runs as root
// with the capability NET_ADMIN and no other, since Kubernetes has no way to give a
// capability to a process that is not root.
func newInitCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use: "init", Short: "Redirect a pod's traffic to its sidecar (in a pod)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.show:
				return printRules(o, c.OutOrStdout())
			case o.remove:
				return redirect.Remove()
			}
			return runInit(o, logr.FromSlogHandler(slog.NewJSONHandler(c.ErrOrStderr(), nil)))
		},
	}
	o.bind(c.Flags())
	c.MarkFlagsMutuallyExclusive("print", "remove")
	return c
}

// bind declares the flags.
func (o *initOptions) bind(flags *pflag.FlagSet) {
	flags.Uint32Var(&o.proxyUID, "proxy-uid", redirect.DefaultProxyUID, "user that the sidecar runs as")
	flags.StringSliceVar(&o.inboundPorts, "inbound-exclude-ports", nil, "ports of the pod that are reached without the sidecar")
	flags.StringSliceVar(&o.outboundPorts, "outbound-exclude-ports", nil, "ports that the pod calls without the sidecar")
	flags.StringSliceVar(&o.outboundRanges, "outbound-exclude-cidrs", nil, "ranges of addresses that the pod calls without the sidecar")
	flags.StringSliceVar(&o.outboundOnly, "outbound-include-cidrs", nil, "ranges that the pod calls through the sidecar; all others it calls directly")
	flags.StringSliceVar(&o.interfaces, "exclude-interfaces", nil, "network interfaces whose traffic is left alone; a + at the end stands for any rest")
	flags.StringSliceVar(&o.podIPs, "pod-ips", nil, "addresses of the pod, for --local-proxy-mode=PodIP")
	flags.StringVar(&o.localProxyMode, "local-proxy-mode", localProxyLocalhost, "where the sidecar calls the application: Localhost or PodIP")
	flags.BoolVar(&o.show, "print", false, "print the rules in nftables' language and redirect nothing")
	flags.BoolVar(&o.remove, "remove", false, "take the rules of an earlier run away and redirect nothing")
}

// printRules writes the rules in nftables' language, and touches nothing.
func printRules(o initOptions, out io.Writer) error {
	config, err := o.config()
	if err != nil {
		return err
	}
	rules, err := redirect.Rules(config)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(out, rules.String())
	return err
}

// runInit redirects and reads back what the kernel has made of it: a pod whose
// traffic goes around its sidecar must not start.
func runInit(o initOptions, log logr.Logger) error {
	config, err := o.config()
	if err != nil {
		return err
	}
	rules, err := redirect.Rules(config)
	if err != nil {
		return err
	}
	if err := redirect.Apply(rules); err != nil {
		return err
	}
	if err := redirect.Verify(rules); err != nil {
		return err
	}
	size := rules.Size()
	log.Info("Redirected the pod's traffic", "rules", size.Rules, "sets", size.Sets, "elements", size.Elements, "proxyUID", config.ProxyUID)
	return nil
}

// config reads the flags' values, and says everything that is wrong with them.
func (o initOptions) config() (redirect.Config, error) {
	c := redirect.Default()
	c.ProxyUID = o.proxyUID
	errs := make([]error, 6)
	c.InboundPortExclusions, errs[0] = parseAll("inbound-exclude-ports", "a port from 1 to 65535", o.inboundPorts, parsePort)
	c.OutboundPortExclusions, errs[1] = parseAll("outbound-exclude-ports", "a port from 1 to 65535", o.outboundPorts, parsePort)
	c.OutboundCIDRExclusions, errs[2] = parseAll("outbound-exclude-cidrs", "a range such as 10.0.0.0/8", o.outboundRanges, netip.ParsePrefix)
	c.OutboundCIDRInclusions, errs[3] = parseAll("outbound-include-cidrs", "a range such as 10.0.0.0/8", o.outboundOnly, netip.ParsePrefix)
	c.InterfaceExclusions = o.interfaces
	switch o.localProxyMode {
	case localProxyLocalhost:
	case localProxyPodIP:
		c.PodIPs, errs[4] = parseAll("pod-ips", "an address", o.podIPs, netip.ParseAddr)
		if len(o.podIPs) == 0 {
			errs[5] = errors.New("--local-proxy-mode=PodIP needs --pod-ips")
		}
	default:
		errs[5] = fmt.Errorf("--local-proxy-mode=%s: use %s or %s", o.localProxyMode, localProxyLocalhost, localProxyPodIP)
	}
	return c, errors.Join(errs...)
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// parseAll reads the values of a flag, of which each must be what is wanted.
func parseAll[T any](flag, wanted string, values []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	var errs []error
	for _, v := range values {
		parsed, err := parse(strings.TrimSpace(v))
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is not %s", flag, v, wanted))
			continue
		}
		out = append(out, parsed)
	}
	return out, errors.Join(errs...)
}
