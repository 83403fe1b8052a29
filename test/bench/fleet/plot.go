package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// point is the cost of one change in a mesh of some size.
type point struct {
	Services, Proxies int
	// CPU is the server's, Acked until the last of the proxies that it concerns.
	CPU, Acked time.Duration
	Concerned  int
}

// plot draws what a change costs that concerns always the same number of proxies, while
// the mesh grows: an SVG image.
func plot(points []point) string {
	const width, height, left, right, top, bottom = 720, 360, 70, 30, 50, 60
	if len(points) < 2 {
		return ""
	}
	most := 0.0
	for _, p := range points {
		most = max(most, ms(p.CPU), ms(p.Acked))
	}
	most = math.Ceil(most*1.2/5) * 5
	first, last := math.Log10(float64(points[0].Proxies)), math.Log10(float64(points[len(points)-1].Proxies))
	x := func(p point) float64 {
		return left + (math.Log10(float64(p.Proxies))-first)/(last-first)*(width-left-right)
	}
	y := func(v float64) float64 { return height - bottom - v/most*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="24" font-size="14">One endpoint changes, %d proxies are concerned; the mesh grows</text>`+"\n", left, points[0].Concerned)
	for i := range 6 {
		v := most * float64(i) / 5
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", left, width-right, y(v), y(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%.0f ms</text>`+"\n", left-8, y(v)+4, v)
	}
	for _, p := range points {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(p), height-bottom+18, p.Proxies)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%d services</text>`+"\n", x(p), height-bottom+34, p.Services)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">proxies connected</text>`+"\n", (left+width-right)/2, height-8)
	for i, line := range []struct {
		name, colour string
		value        func(point) time.Duration
	}{
		{"event to last ACK, p50", "#d95f02", func(p point) time.Duration { return p.Acked }},
		{"CPU of the control plane", "#1b6ca8", func(p point) time.Duration { return p.CPU }},
	} {
		var path []string
		for _, p := range points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(p), y(ms(line.value(p)))))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", x(p), y(ms(line.value(p))), line.colour)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), line.colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", left+12+i*200, top-8, line.colour, line.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
