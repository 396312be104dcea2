package message

// Version is the version of the encoding that this code writes, and the newest that it reads. Added keys do not
// change it: it grows only when an older node would misread what a newer one wrote.
const Version = 1

// Limits on what a stranger's message can make us keep. See docs/formats/summary.md.
const (
	MaxDepth   = 32       // levels of multipart and message/rfc822, the message itself being the first
	MaxParts   = 1000     // parts of a message, all levels together
	MaxHeaders = 16 << 10 // bytes of captured header fields
	MaxEncoded = 32 << 10 // bytes of an encoded summary
)

// Summary is what is learned of a message when it is taken in: enough to list, sort and search it by header, and to
// turn every FETCH of a part of it into a read of a range of its bytes.
type Summary struct {
	Version  uint   `cbor:"1,keyasint"`
	Size     uint64 `cbor:"2,keyasint"`           // bytes of the message
	SentDate int64  `cbor:"3,keyasint,omitempty"` // the Date field in unix seconds, 0 when unknown

	Envelope  Envelope `cbor:"4,keyasint,omitempty"`
	Structure *Part    `cbor:"5,keyasint"` // never nil after Finish or Decode; its header is the message's header

	// Headers are the captured fields in the message's order. HeadersComplete says that they are the whole header.
	// Otherwise Skipped holds a 16-bit hash of each name that has fields which were not captured (two bytes each,
	// ascending), unless even those were too many: then HeadersUnknown is true. Ask Fields.
	Headers         []HeaderField `cbor:"6,keyasint,omitempty"`
	HeadersComplete bool          `cbor:"7,keyasint,omitempty"`
	HeadersUnknown  bool          `cbor:"8,keyasint,omitempty"`
	Skipped         []byte        `cbor:"9,keyasint,omitempty"`

	// Degraded says that envelope or structure were cut to fit MaxEncoded. A new Scanner over the message's bytes
	// gives all that the scanner's own, wider limits allow.
	Degraded bool `cbor:"10,keyasint,omitempty"`
}

// HeaderField is one field exactly as it is in the message: name, colon, value with its folding, line end.
type HeaderField []byte

// Envelope is the envelope of RFC 3501 section 7.4.2. Values are as on the wire, only unfolded, trimmed and freed of
// NUL bytes: neither RFC 2047 words nor 8-bit bytes are decoded (DecodeHeader does that). A missing Sender or ReplyTo
// is empty here; an IMAP server answers From in its place.
type Envelope struct {
	Date      string    `cbor:"1,keyasint,omitempty"`
	Subject   string    `cbor:"2,keyasint,omitempty"`
	From      []Address `cbor:"3,keyasint,omitempty"`
	Sender    []Address `cbor:"4,keyasint,omitempty"`
	ReplyTo   []Address `cbor:"5,keyasint,omitempty"`
	To        []Address `cbor:"6,keyasint,omitempty"`
	Cc        []Address `cbor:"7,keyasint,omitempty"`
	Bcc       []Address `cbor:"8,keyasint,omitempty"`
	InReplyTo string    `cbor:"9,keyasint,omitempty"`  // with its angle brackets
	MessageID string    `cbor:"10,keyasint,omitempty"` // with its angle brackets
	Blank     uint8     `cbor:"11,keyasint,omitempty"` // Blank… bits: fields that are there and empty. Summaries of before it say nothing of that
}

// Bits of Envelope.Blank. IMAP tells an empty field from a missing one (RFC 3501 section 7.4.2).
const (
	BlankDate uint8 = 1 << iota
	BlankSubject
	BlankInReplyTo
	BlankMessageID
)

// Address is one entry of an address list. As in RFC 3501, an empty Host marks group syntax: the group's start with
// its name in Mailbox, or its end when Mailbox is empty too. An address that lacks a part has MissingMailbox or
// MissingHost there, so that it is never taken for a group.
type Address struct {
	Name    string `cbor:"1,keyasint,omitempty"`
	Mailbox string `cbor:"2,keyasint,omitempty"`
	Host    string `cbor:"3,keyasint,omitempty"`
	Route   string `cbor:"4,keyasint,omitempty"` // source route of RFC 822, "@a,@b" of <@a,@b:mailbox@host>
}

// What stands in an Address for what the message left out.
const (
	MissingMailbox = "MISSING_MAILBOX"
	MissingHost    = "MISSING_DOMAIN"
)

// Part is an entity of the message: the message itself, a part of a multipart, or the message inside a
// message/rfc822. Its shape is always one that IMAP can express: a multipart has one or more Children, a
// message/rfc822 or message/global has an Envelope and exactly one child (the root of the message inside, whose header
// starts at this part's BodyStart), and nothing else has children.
type Part struct {
	Type    string `cbor:"1,keyasint"` // lower case, never empty
	Subtype string `cbor:"2,keyasint"` // lower case, never empty
	Params  Params `cbor:"3,keyasint,omitempty"`

	ID          string `cbor:"4,keyasint,omitempty"`
	Description string `cbor:"5,keyasint,omitempty"`
	Encoding    string `cbor:"6,keyasint,omitempty"` // Content-Transfer-Encoding, lower case; "" is 7bit

	Disposition       string   `cbor:"7,keyasint,omitempty"` // lower case
	DispositionParams Params   `cbor:"8,keyasint,omitempty"`
	Language          []string `cbor:"9,keyasint,omitempty"`
	Location          string   `cbor:"10,keyasint,omitempty"`
	MD5               string   `cbor:"11,keyasint,omitempty"`

	// Offsets in the message. [HeaderStart, BodyStart) is the part's header with its empty line, [BodyStart,
	// BodyEnd) its body without the line end that belongs to the following boundary.
	HeaderStart uint64 `cbor:"12,keyasint,omitempty"`
	BodyStart   uint64 `cbor:"13,keyasint,omitempty"`
	BodyEnd     uint64 `cbor:"14,keyasint,omitempty"`
	Size        uint64 `cbor:"-"`                     // of the body: BodyEnd - BodyStart
	Lines       uint64 `cbor:"15,keyasint,omitempty"` // line feeds in the body

	Children []*Part   `cbor:"16,keyasint,omitempty"`
	Envelope *Envelope `cbor:"17,keyasint,omitempty"` // of the message inside a message/rfc822
}

// Params are the parameters of a Content-Type or Content-Disposition in the message's order; values are unquoted but
// otherwise undecoded (RFC 2231 pieces stay apart). No name occurs twice.
type Params []Param

// Param is one parameter.
type Param struct {
	_     struct{} `cbor:",toarray"`
	Name  string   // lower case
	Value string
}

// Multipart says whether the part is made of parts.
func (p *Part) Multipart() bool { return p.Type == "multipart" }

// Message says whether the part is a message inside the message.
func (p *Part) Message() bool {
	return p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
}
