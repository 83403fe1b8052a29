package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// table writes rows as one Markdown table.
func table(w io.Writer, rows []row) {
	fmt.Fprintln(w, "| set-up | what | times | proxies | CPU each time | CPU a proxy | responses | resources | bytes a proxy | took | write to event p50 / p99 | event to sent p50 | event to last ACK p50 / p99 / max | notes |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
}

// String is the line of the table.
func (r row) String() string {
	each := func(total float64) float64 { return total / float64(max(1, r.Proxies)) }
	cells := []string{
		r.Setup, r.What, fmt.Sprint(r.Events), orNone(r.Proxies > 0, "%d", r.Proxies),
		duration(r.CPU), duration(time.Duration(each(float64(r.CPU)))),
		number(r.Responses), number(r.Resources), bytesText(each(r.Bytes)), duration(r.Took),
		pair(r.Write.P50, r.Write.P99), duration(r.Sent.P50),
		orNone(r.Acked.Max > 0, "%s / %s / %s", duration(r.Acked.P50), duration(r.Acked.P99), duration(r.Acked.Max)), r.Note,
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func orNone(there bool, format string, args ...any) string {
	if !there {
		return "-"
	}
	return fmt.Sprintf(format, args...)
}

func pair(a, b time.Duration) string {
	return orNone(b > 0, "%s / %s", duration(a), duration(b))
}

func number(f float64) string {
	if f == float64(int64(f)) {
		return fmt.Sprint(int64(f))
	}
	return fmt.Sprintf("%.1f", f)
}

// duration gives three digits or so.
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 100*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func bytesText(b float64) string {
	switch {
	case b <= 0:
		return "-"
	case b < 10<<10:
		return fmt.Sprintf("%.0f", b)
	case b < 10<<20:
		return fmt.Sprintf("%.0f KiB", b/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", b/(1<<20))
}
