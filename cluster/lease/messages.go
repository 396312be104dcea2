package lease

// methodAsk asks the leader of a shard, methodWho any node.
const (
	methodAsk = "lease.ask"
	methodWho = "lease.who"
)

// kind is what a claim wants. Numbers are fixed.
type kind uint8

const (
	take    kind = 1
	renew   kind = 2
	release kind = 3
)

// claim is of one session.
type claim struct {
	Kind    kind   `cbor:"1,keyasint"`
	Account uint64 `cbor:"2,keyasint"`
	Session uint64 `cbor:"3,keyasint"`
}

// askRequest has claims of one node's sessions, about accounts of one shard.
type askRequest struct {
	Shard  uint32  `cbor:"1,keyasint"`
	Node   string  `cbor:"2,keyasint"`
	Claims []claim `cbor:"3,keyasint"`
}

// verdict answers a claim. Numbers are fixed.
type verdict uint8

const (
	granted verdict = 1 // also to what was released
	held    verdict = 2 // by another session, or nobody knows this one any more
	unsure  verdict = 3 // somebody may have it: ask again
	moved   verdict = 4 // the account is in another shard, or on its way
)

// answer is to one claim.
type answer struct {
	Verdict verdict `cbor:"1,keyasint"`
	Shard   uint32  `cbor:"2,keyasint,omitempty"` // moved: where it is, 0 if it is on its way
	At      uint64  `cbor:"3,keyasint,omitempty"` // moved: since this entry of that shard
}

// askResponse has an answer to each claim.
type askResponse struct {
	Answers []answer `cbor:"1,keyasint"`
}

// whoRequest asks which session of a node has an account.
type whoRequest struct {
	Account uint64 `cbor:"1,keyasint"`
}

// whoResponse: Session 0 is none.
type whoResponse struct {
	Session uint64 `cbor:"1,keyasint,omitempty"`
	Has     bool   `cbor:"2,keyasint,omitempty"` // it has the account; else it wants it
}
