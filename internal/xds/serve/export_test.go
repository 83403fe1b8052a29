package serve

// Remembered counts what is written down of the proxies: names and versions that are not
// what their classes are sent.
func (s *Server) Remembered() int {
	n := 0
	for _, one := range s.all() {
		one.stream.mu.Lock()
		for k := range one.stream.subs {
			n += len(one.stream.subs[k].names) + len(one.stream.subs[k].versions)
		}
		one.stream.mu.Unlock()
	}
	return n
}
