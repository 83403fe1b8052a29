package report

import "time"

// SetSilence changes how long a replica may say nothing. It is called before SetReplicas.
func (c *Collector) SetSilence(d time.Duration) { c.silence = d }
