package translate

// Remembered counts what a Translator remembers.
func Remembered(t *Translator) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remembered()
}
