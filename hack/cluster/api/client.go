// Package api asks a cluster's API server the few questions that a local cluster
// has. A kubeconfig comes in; plain facts go out. It changes nothing.
package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Client is an administrator's connection.
type Client struct {
	server string
	http   *http.Client
}

// kubeconfig is the part of it that clusters of this program use. It is written
// as JSON.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server string `json:"server"`
			CA     []byte `json:"certificate-authority-data"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Certificate []byte `json:"client-certificate-data"`
			Key         []byte `json:"client-key-data"`
		} `json:"user"`
	} `json:"users"`
}

// Open reads a kubeconfig that this program wrote.
func Open(path string) (*Client, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config kubeconfig
	if err := json.Unmarshal(content, &config); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(config.Clusters) != 1 || len(config.Users) != 1 {
		return nil, fmt.Errorf("%s is not one of a local cluster", path)
	}
	pair, err := tls.X509KeyPair(config.Users[0].User.Certificate, config.Users[0].User.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate in %s: %w", path, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	return &Client{
		server: config.Clusters[0].Cluster.Server,
		http: &http.Client{
			Timeout: 5 * time.Second,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair},
			}},
		},
	}, nil
}

// Ready returns nil when the API server says that it is.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.get(ctx, "/readyz")
	return err
}

// NodeReady returns nil when the node of this name is ready, and why not
// otherwise. What it said before the given time does not count: the API server
// remembers what a dead node said last.
func (c *Client) NodeReady(ctx context.Context, name string, since time.Time) error {
	var node struct {
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time
			}
		}
	}
	if err := c.decode(ctx, "/api/v1/nodes/"+name, &node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		// The API server keeps whole seconds.
		if condition.LastHeartbeatTime.Before(since.Truncate(time.Second)) {
			return fmt.Errorf("node %s has not been heard of since %s", name, condition.LastHeartbeatTime.Format(time.RFC3339))
		}
		if condition.Status == "True" {
			return nil
		}
		return fmt.Errorf("node %s is not ready: %s", name, condition.Message)
	}
	return fmt.Errorf("node %s has not said yet whether it is ready", name)
}

// DeploymentReady returns nil when every replica of the newest generation is
// available.
func (c *Client) DeploymentReady(ctx context.Context, namespace, name string) error {
	var deployment struct {
		Metadata struct{ Generation int64 }
		Spec     struct{ Replicas int }
		Status   struct {
			ObservedGeneration                 int64
			UpdatedReplicas, AvailableReplicas int
		}
	}
	if err := c.decode(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, &deployment); err != nil {
		return err
	}
	wanted := deployment.Spec.Replicas
	available := min(deployment.Status.AvailableReplicas, deployment.Status.UpdatedReplicas)
	if deployment.Status.ObservedGeneration < deployment.Metadata.Generation || available < wanted {
		return fmt.Errorf("deployment %s/%s has %d of %d replicas available", namespace, name, available, wanted)
	}
	return nil
}

func (c *Client) decode(ctx context.Context, path string, into any) error {
	content, err := c.get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}

func (c *Client) get(ctx context.Context, path string) (content []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	content, err = io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.300s", path, response.Status, strings.TrimSpace(string(content)))
	}
	return content, nil
}
