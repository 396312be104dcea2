package dictionary

import (
	"container/heap"
	"hash/maphash"
)

const (
	window = 24 // bytes of which many accounts must have mail
	// cutAt is about how many windows a piece has: it ends where the hash of its last window is a multiple, so that the same text
	// gives the same pieces wherever it stands.
	cutAt    = 256
	maxPiece = 1 << 10
)

// choose gives the strings that save most, at most size bytes, the best last: near ones are cheaper to refer to. The samples are sorted by
// account.
//
// What a string saves is counted in windows: one that stands in m messages saves about a byte in each. Of the pieces of common text that with
// the most such savings for its length comes first; what it covers counts for no other.
func choose(samples []Sample, size int) []byte {
	w := newWindows(samples)
	q := &queue{}
	for _, p := range w.pieces(samples) {
		q.list = append(q.list, candidate{p, w.worth(p)})
	}
	heap.Init(q)
	var chosen [][]byte
	for size > 0 && len(q.list) > 0 {
		c := q.list[0]
		c.text = w.trim(c.text)
		c.worth = w.worth(c.text)
		switch {
		case len(c.text) == 0:
			heap.Pop(q)
		case c.worth < q.list[0].worth: // others came before: perhaps it is not the best any more
			q.list[0] = c
			heap.Fix(q, 0)
		default:
			heap.Pop(q)
			chosen = append(chosen, c.text[:min(len(c.text), size)])
			size -= len(c.text)
			w.cover(c.text)
		}
	}
	var out []byte
	for i := range chosen {
		out = append(out, chosen[len(chosen)-1-i]...)
	}
	return out
}

// candidate is a piece and what it saves for each of its bytes.
type candidate struct {
	text  []byte
	worth float64
}

// queue is a heap with the best candidate on top.
type queue struct{ list []candidate }

func (q *queue) Len() int           { return len(q.list) }
func (q *queue) Less(i, j int) bool { return q.list[i].worth > q.list[j].worth }
func (q *queue) Swap(i, j int)      { q.list[i], q.list[j] = q.list[j], q.list[i] }
func (q *queue) Push(x any)         { q.list = append(q.list, x.(candidate)) }
func (q *queue) Pop() any {
	last := q.list[len(q.list)-1]
	q.list = q.list[:len(q.list)-1]
	return last
}

// windows counts in how many accounts' mail, and in how many messages, each window occurs.
type windows struct {
	seed   maphash.Seed
	counts map[uint64]tally
}

// tally counts accounts and messages; those counted last are known by their numbers, from 1.
type tally struct{ account, accounts, message, messages uint32 }

// newWindows counts in two passes: the first finds, in little memory, which windows can be common at all.
func newWindows(samples []Sample) *windows {
	w := &windows{seed: maphash.MakeSeed(), counts: make(map[uint64]tally)}
	rough := make([]tally, 1<<21)
	w.each(samples, func(hash uint64, account, message uint32) { rough[hash%uint64(len(rough))].add(account, message) })
	w.each(samples, func(hash uint64, account, message uint32) {
		if rough[hash%uint64(len(rough))].accounts < MinAccounts {
			return
		}
		t := w.counts[hash]
		t.add(account, message)
		w.counts[hash] = t
	})
	for hash, t := range w.counts {
		if t.accounts < MinAccounts {
			delete(w.counts, hash)
		}
	}
	return w
}

// add counts an account and a message once each: samples are sorted.
func (t *tally) add(account, message uint32) {
	if t.account != account {
		t.account, t.accounts = account, t.accounts+1
	}
	if t.message != message {
		t.message, t.messages = message, t.messages+1
	}
}

// each calls see with every window of every sample.
func (w *windows) each(samples []Sample, see func(hash uint64, account, message uint32)) {
	account := uint32(0)
	for i, s := range samples {
		if i == 0 || s.Account != samples[i-1].Account {
			account++
		}
		for at := range len(s.Bytes) - window + 1 {
			see(w.hash(s.Bytes[at:]), account, uint32(i)+1)
		}
	}
}

func (w *windows) hash(b []byte) uint64 { return maphash.Bytes(w.seed, b[:window]) }

// common says whether the window at the beginning of b is in many accounts' mail.
func (w *windows) common(b []byte) (hash uint64, yes bool) {
	hash = w.hash(b)
	_, yes = w.counts[hash]
	return hash, yes
}

// pieces cuts the common text of all samples, and gives each piece once.
func (w *windows) pieces(samples []Sample) [][]byte {
	var out [][]byte
	seen := make(map[uint64]bool)
	for _, s := range samples {
		start := -1 // of the piece
		for at := 0; at+window <= len(s.Bytes); at++ {
			hash, yes := w.common(s.Bytes[at:])
			if yes && start < 0 {
				start = at
			}
			end := at + window // of the piece, if this window ends it
			if !yes {
				end--
			}
			if start >= 0 && (!yes || hash%cutAt == 0 || end-start >= maxPiece || end == len(s.Bytes)) {
				text := s.Bytes[start:end]
				if h := maphash.Bytes(w.seed, text); !seen[h] {
					seen[h] = true
					out = append(out, text)
				}
				start = -1
			}
		}
	}
	return out
}

// worth is how many bytes a text saves, by what is not covered yet, for each of its own.
func (w *windows) worth(text []byte) float64 {
	sum := 0.0
	for at := range len(text) - window + 1 {
		sum += float64(w.counts[w.hash(text[at:])].messages)
	}
	return sum / float64(max(len(text), 1))
}

// trim takes off both ends what is covered.
func (w *windows) trim(text []byte) []byte {
	for len(text) >= window && w.counts[w.hash(text)].messages == 0 {
		text = text[1:]
	}
	for len(text) >= window && w.counts[w.hash(text[len(text)-window:])].messages == 0 {
		text = text[:len(text)-1]
	}
	if len(text) < window {
		return nil
	}
	return text
}

// cover makes the windows of a text count for nothing from now on.
func (w *windows) cover(text []byte) {
	for at := range len(text) - window + 1 {
		hash := w.hash(text[at:])
		t := w.counts[hash]
		t.messages = 0
		w.counts[hash] = t
	}
}
