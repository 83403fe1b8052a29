package ir

import "time"

// Limits bound what one proxy has under way to a cluster; nil is no bound.
type Limits struct {
	MaxConnections, MaxPendingRequests, MaxRequests, MaxRetries, MaxRequestsPerConnection *uint32
}

// Rate is how often something may happen at one proxy.
type Rate struct {
	// Number in each Interval, and Burst on top at once.
	Number   uint32
	Burst    uint32
	Interval time.Duration
}

// LocalRateLimit bounds the rate of requests at one proxy.
type LocalRateLimit struct {
	Rate
	// Status is the answer over the bound; 0 is 429. Headers are added to it.
	Status  uint32
	Headers []Header
}
