package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/openservicemesh/osm-operator/hack/cluster/spec"
)

const (
	// firstPause and longestPause bound how long a program that ended rests.
	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
	// steady is how long a program must run for its past to be forgotten.
	steady = time.Minute
)

// Condition is how one program fares, as status reads it.
type Condition struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Restarts int       `json:"restarts"`
	LastExit string    `json:"lastExit,omitempty"`
}

// supervisor keeps programs running and buries every orphan of the node. One
// goroutine owns all of it, so that no other ever waits for a child.
type supervisor struct {
	boot     Boot
	programs []*running
	signals  <-chan os.Signal
	// wake receives a program whose turn to start has come.
	wake chan *running
}

type running struct {
	Program
	binary    string
	pause     time.Duration
	condition Condition
}

func newSupervisor(boot Boot, signals <-chan os.Signal) (*supervisor, error) {
	s := &supervisor{boot: boot, signals: signals, wake: make(chan *running)}
	for _, p := range Programs(boot.Spec) {
		dir, err := boot.inNode(p.Part)
		if err != nil {
			return nil, err
		}
		s.programs = append(s.programs, &running{
			Program: p, binary: filepath.Join(dir, p.Name), pause: firstPause, condition: Condition{Name: p.Name},
		})
	}
	return s, nil
}

// run starts every program and goes on until a signal tells it to end. Ending is
// all that it has to do then: the kernel ends every other process of the
// namespace with the first.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range s.programs {
		s.startLater(ctx, p, 0)
	}
	for {
		select {
		case p := <-s.wake:
			s.start(ctx, p)
		case signal := <-s.signals:
			if signal != syscall.SIGCHLD {
				return nil
			}
			s.bury(ctx)
		}
		if err := s.report(); err != nil {
			return fmt.Errorf("writing how the programs fare: %w", err)
		}
	}
}

// startLater hands a program to the loop once its pause is over and what it
// depends on accepts connections.
func (s *supervisor) startLater(ctx context.Context, p *running, pause time.Duration) {
	go func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := accepts(ctx, p.After); err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case s.wake <- p:
		}
	}()
}

func accepts(ctx context.Context, address string) error {
	var dialer net.Dialer
	for address != "" {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

func (s *supervisor) start(ctx context.Context, p *running) {
	pid, err := s.spawn(p)
	if err != nil {
		p.condition.LastExit = err.Error()
		s.startLater(ctx, p, s.nextPause(p))
		return
	}
	p.condition.PID, p.condition.Started = pid, time.Now()
}

func (s *supervisor) spawn(p *running) (int, error) {
	log, err := os.OpenFile(spec.Tree(stateMount).Log(p.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer nothing.Close()
	return syscall.ForkExec(p.binary, append([]string{p.binary}, p.Arguments...), &syscall.ProcAttr{
		Dir:   "/",
		Env:   Environment(s.boot),
		Files: []uintptr{nothing.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// Environment is that of every program in the node, whatever shell started the
// cluster.
func Environment(boot Boot) []string {
	var path []string
	for _, part := range []string{"kube", "containerd", "runc", "cni"} {
		if dir, err := boot.inNode(part); err == nil {
			path = append(path, dir)
		}
	}
	path = append(path, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	return []string{"PATH=" + strings.Join(path, ":"), "HOME=/root", "TMPDIR=/var/tmp", "LANG=C.UTF-8"}
}

// ShellEnvironment is for people who look around in the node.
func ShellEnvironment(boot Boot) []string {
	return append(Environment(boot), "KUBECONFIG="+spec.Tree(stateMount).Kubeconfig(), "TERM="+os.Getenv("TERM"))
}

// bury collects every child that has ended: the programs themselves, to start
// them again, and orphans that the node inherited.
func (s *supervisor) bury(ctx context.Context) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for _, p := range s.programs {
			if p.condition.PID == pid {
				s.ended(ctx, p, status)
			}
		}
	}
}

func (s *supervisor) ended(ctx context.Context, p *running, status syscall.WaitStatus) {
	if time.Since(p.condition.Started) > steady {
		p.pause = firstPause
	}
	p.condition.PID = 0
	p.condition.Restarts++
	p.condition.LastExit = describe(status)
	fmt.Fprintf(os.Stderr, "%s %s %s\n", time.Now().Format(time.RFC3339), p.Name, p.condition.LastExit)
	s.startLater(ctx, p, s.nextPause(p))
}

func (s *supervisor) nextPause(p *running) time.Duration {
	pause := p.pause
	p.pause = min(2*p.pause, longestPause)
	return pause
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "was killed by " + status.Signal().String()
	}
	return fmt.Sprintf("exited with code %d", status.ExitStatus())
}

// report writes the conditions for status to read, whole or not at all.
func (s *supervisor) report() error {
	conditions := make([]Condition, 0, len(s.programs))
	for _, p := range s.programs {
		conditions = append(conditions, p.condition)
	}
	content, err := json.MarshalIndent(conditions, "", "  ")
	if err != nil {
		return err
	}
	file := spec.Tree(stateMount).ProgramsFile()
	if err := os.WriteFile(file+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
