package textsearch

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/wire"
	"hongyan/engine/fulltext"
)

// methodCandidates asks a node for the messages of a mailbox that may contain a text. Programs up to feature level 1 do not know it, and are passed over.
const methodCandidates = "textsearch.candidates"

const (
	maxNeedle = 2 << 10         // bytes of a text that indexes are asked for
	askWait   = 5 * time.Second // for one node's answer
	askNodes  = 2               // that are asked at most
)

// request is a question.
type request struct {
	Shard       uint32 `cbor:"1,keyasint"`
	Account     uint64 `cbor:"2,keyasint"`
	Mailbox     uint32 `cbor:"3,keyasint"`
	UIDValidity uint32 `cbor:"4,keyasint"`
	Text        string `cbor:"5,keyasint"`
}

// reply is an answer: of messages up to Through only those in UIDs may have the text.
type reply struct {
	Through uint32 `cbor:"1,keyasint,omitempty"`
	UIDs    []byte `cbor:"2,keyasint,omitempty"`
}

func (s *Service) serveCandidates(ctx context.Context, _ string, req *request) (*reply, error) {
	if len(req.Text) > maxNeedle {
		return nil, wire.Errorf(wire.Limit, "a text of %d bytes", len(req.Text))
	}
	a, err := s.search(ctx, req)
	if err != nil {
		return nil, err
	}
	set, err := mailbox.EncodeUIDs(a.UIDs)
	return &reply{Through: a.Through, UIDs: set}, err
}

// search asks this node's index.
func (s *Service) search(ctx context.Context, req *request) (fulltext.Answer, error) {
	if s.cfg.DB == nil {
		return fulltext.Answer{}, wire.Errorf(wire.NotFound, "this node keeps no full-text index")
	}
	began := time.Now()
	m := fulltext.Mailbox{Shard: req.Shard, Account: req.Account, ID: req.Mailbox}
	a, err := s.cfg.DB.Search(ctx, m, req.UIDValidity, req.Text)
	s.metrics.seconds.Observe(time.Since(began).Seconds())
	if err != nil {
		s.metrics.failures.Inc()
	}
	return a, err
}

// Candidates says which messages of a mailbox may contain a text, regardless of case: of those up to through only those in uids; of others nothing is
// known. It never fails: where no index answers, through is 0.
func (s *Service) Candidates(ctx context.Context, number uint32, account uint64, folder, uidValidity uint32, text string) (through uint32, uids *roaring.Bitmap) {
	req := &request{Shard: number, Account: account, Mailbox: folder, UIDValidity: uidValidity, Text: cut(text)}
	uids = roaring.New()
	for _, node := range s.nearest(number) {
		upTo, some, err := s.askNode(ctx, node, req)
		if err != nil {
			s.cfg.Log.Debug("full-text index: no answer", "node", node, "shard", number, "err", err)
			continue
		}
		if upTo > through {
			through, uids = upTo, some
		}
		if through > 0 {
			break
		}
	}
	result := "none"
	if through > 0 {
		result = "index"
	}
	s.metrics.searches.WithLabelValues(result).Inc()
	return through, uids
}

// cut shortens a text to what is asked for. Who has the whole text has its beginning.
func cut(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxNeedle {
		return text
	}
	end := maxNeedle
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// nearest lists the nodes that index a shard, this one first, then by distance; those that do not answer are left out.
func (s *Service) nearest(number uint32) []string {
	group, ok := s.cfg.Router.Group(number)
	if !ok {
		return nil
	}
	self := s.cfg.Net.ID()
	nodes := s.cfg.Net.Nearest(slices.DeleteFunc(slices.Clone(s.indexers(group)), func(n string) bool {
		return n != self && s.cfg.Net.InDoubt(n) || n == self && s.cfg.DB == nil
	}))
	return nodes[:min(len(nodes), askNodes)]
}

func (s *Service) askNode(ctx context.Context, node string, req *request) (through uint32, uids *roaring.Bitmap, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if node == s.cfg.Net.ID() {
		a, err := s.search(ctx, req)
		return a.Through, a.UIDs, err
	}
	var r reply
	if err := s.cfg.Net.CallSound(ctx, node, methodCandidates, req, &r); err != nil {
		return 0, nil, err
	}
	uids, err = mailbox.DecodeUIDs(r.UIDs)
	return r.Through, uids, err
}
