// Package machine tells benchmarks what processes take of the machine that they run on, and
// what machine that is. It reads /proc, so it needs Linux.
package machine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU returns the time that a process has computed, to the nanosecond: the sum over its
// threads. Threads that have ended are not in it; Go's do not end by themselves.
func CPU(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(tasks) == 0 {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var sum time.Duration
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that ended meanwhile
		}
		first, _, _ := strings.Cut(string(raw), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", task, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// Memory is what a process has of the machine's, in bytes.
type Memory struct {
	// Resident is what it has in memory, Peak what it had at the most.
	Resident, Peak int64
	// File is the part of Resident that is files, such as the program itself: the kernel
	// takes it back when others need it.
	File int64
}

// MemoryOf returns the memory of a process.
func MemoryOf(pid int) (Memory, error) {
	var out Memory
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return out, err
	}
	fields := map[string]*int64{"VmRSS": &out.Resident, "VmHWM": &out.Peak, "RssFile": &out.File}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		field := fields[name]
		if field == nil {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return out, fmt.Errorf("reading the memory of process %d: %w", pid, err)
		}
		*field = kib << 10
	}
	return out, nil
}

// FreePorts returns ports of 127.0.0.1 that nobody listens on.
func FreePorts(ctx context.Context, count int) ([]int, error) {
	var out []int
	// All are held until the last is found, so that no two are the same.
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range count {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		at, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		out = append(out, int(at.Port()))
	}
	return out, nil
}

// Description says on what this runs: the processor, and how busy it is.
func Description() string {
	model := "unknown processor"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := ""
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(raw)); len(fields) > 0 {
			load = ", load before " + fields[0]
		}
	}
	return model + load
}
