// Command listeners measures what the shape of the outbound listeners costs a sidecar:
// it starts a real Envoy, serves it the resources of a mesh of many services in each of
// several shapes, and prints memory, start-up time and the cost of one more service as
// a Markdown table. The decision that rests on it is docs/decisions/0003.
//
// It needs Linux and OSM_TEST_ENVOY, the path of an Envoy.
//
//	go run ./test/bench/listeners -services 1000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	envoy := flag.String("envoy", os.Getenv("OSM_TEST_ENVOY"), "path of Envoy")
	services := flag.Int("services", 1000, "number of services in the mesh")
	more := flag.Int("more", 10, "services added one by one afterwards")
	workers := flag.String("concurrency", "1,2", "numbers of worker threads")
	only := flag.String("only", "", "measure only shapes whose name has this in it")
	flag.Parse()
	if *envoy == "" {
		return fmt.Errorf("say where Envoy is, by OSM_TEST_ENVOY or -envoy")
	}
	fmt.Printf("| shape | workers | RSS MiB | allocated MiB | KiB per service | ready | initial MiB sent | +1: bytes | +1: resources | +1: CPU | +1: acknowledged | listeners added / modified / in place | RSS MiB with 5 services called | first call | next call |\n")
	fmt.Printf("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for w := range strings.SplitSeq(*workers, ",") {
		n, err := strconv.Atoi(w)
		if err != nil {
			return err
		}
		var floor float64
		for _, s := range shapes() {
			if !strings.Contains(s.name, *only) {
				continue
			}
			count := *services
			if s.empty {
				count = 0
			}
			m, err := measure(ctx, *envoy, s, load{services: count, more: *more, workers: n, quiet: 3 * time.Second})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if s.empty {
				floor = m.allocated
			}
			fmt.Println(row(s, n, count, floor, m))
		}
	}
	return nil
}

func row(s shape, workers, services int, floor float64, m measurement) string {
	const mib = 1 << 20
	each := "-"
	if services > 0 && floor > 0 {
		each = fmt.Sprintf("%.1f", (m.allocated-floor)/float64(services)/1024)
	}
	return fmt.Sprintf("| %s | %d | %.1f | %.1f | %s | %s | %.2f | %d | %d | %s | %s | %d / %d / %d | %.1f | %s | %s |",
		s.name, workers, m.resident/mib, m.allocated/mib, each, m.ready.Round(10*time.Millisecond), float64(m.sent)/mib,
		m.oneBytes, m.oneResources, m.oneCPU.Round(10*time.Microsecond), m.oneAck.Round(10*time.Microsecond),
		m.added, m.modified, m.inPlace, m.residentInUse/mib, m.firstCall.Round(10*time.Microsecond), m.nextCall.Round(10*time.Microsecond))
}
