package member

import "sync"

// MaxWord is the length of the longest word.
const MaxWord = packetSize - 64 // what memberlist adds is less

// Subject is what a word is about; a node drops words on those that it does not know.
type Subject uint8

// Logins are the results of logins, see package auth.
const Logins Subject = 1

// words are who hears what others tell.
type words struct {
	mu   sync.Mutex // guards hear
	hear map[Subject]func(word []byte)
}

// Tell tells all other members a word of at most MaxWord bytes. It never waits, and nobody answers: who is not there does not hear it later.
// A word with more bytes is not told.
func (l *List) Tell(about Subject, word []byte) {
	l.mu.Lock()
	stopped := l.stopped
	l.mu.Unlock()
	if stopped || len(word) > MaxWord {
		return
	}
	packet := append([]byte{byte(about)}, word...)
	for _, node := range l.ml.Members() {
		if node.Name != l.cfg.Net.ID() && l.cfg.Net.Knows(node.Name) {
			_ = l.ml.SendBestEffort(node, packet) // a carrier never fails
		}
	}
}

// Hear has fn called with what the others tell about a subject from now on. It must not wait, and the word is its only until it returns.
func (l *List) Hear(about Subject, fn func(word []byte)) {
	l.words.mu.Lock()
	defer l.words.mu.Unlock()
	if l.words.hear == nil {
		l.words.hear = make(map[Subject]func([]byte))
	}
	l.words.hear[about] = fn
}

// heard passes a packet on.
func (l *List) heard(packet []byte) {
	if len(packet) == 0 || len(packet) > MaxWord+1 {
		return
	}
	l.words.mu.Lock()
	fn := l.words.hear[Subject(packet[0])]
	l.words.mu.Unlock()
	if fn != nil {
		fn(packet[1:])
	}
}
