package message

// Outline is what searching and sorting need of an encoded summary: the captured fields and the envelope, without the structure, which is most of the
// work of Decode. It points into the encoding, which must stay as it is meanwhile; Read makes it anew in the same memory.
//
// What it says is what Decode would say. Whether the structure makes sense it does not look at.
type Outline struct {
	sum      Summary // captured fields and date only
	envelope []byte  // encoded; nil: empty
	decoded  bool    // sum.Envelope is envelope
}

// Keys of a Summary.
const (
	keyVersion         = 1
	keySentDate        = 3
	keyEnvelope        = 4
	keyStructure       = 5
	keyHeaders         = 6
	keyHeadersComplete = 7
	keyHeadersUnknown  = 8
	keySkipped         = 9
	keyDegraded        = 10
)

// Read reads the encoding of a summary. It is false for everything that is not plain: a summary that was cut to size, one of another version, damage. Then ask Decode.
func (o *Outline) Read(b []byte) bool {
	*o = Outline{sum: Summary{Headers: o.sum.Headers[:0]}}
	structured := false
	ok := len(b) <= MaxEncoded && eachPair(b, func(key uint64, value []byte) bool {
		structured = structured || key == keyStructure
		return o.take(key, value)
	})
	return ok && structured && o.sum.Version == Version
}

// take takes the value of a key.
func (o *Outline) take(key uint64, value []byte) bool {
	major, n, rest, _ := head(value)
	switch key {
	case keyVersion:
		o.sum.Version = uint(n)
		return major == majorUint
	case keySentDate:
		o.sum.SentDate = int64(n)
		if major == majorNegative {
			o.sum.SentDate = ^o.sum.SentDate
		}
		return major <= majorNegative && n>>63 == 0
	case keyEnvelope:
		o.envelope = value
		return major == majorMap
	case keyStructure:
		return major == majorMap
	case keyHeaders:
		return major == majorArray && o.takeHeaders(n, rest)
	case keyHeadersComplete:
		o.sum.HeadersComplete = n == simpleTrue
		return major == majorSimple && len(rest) == 0
	case keyHeadersUnknown:
		o.sum.HeadersUnknown = n == simpleTrue
		return major == majorSimple && len(rest) == 0
	case keySkipped:
		o.sum.Skipped = rest
		return major == majorBytes && len(rest)%2 == 0
	case keyDegraded:
		return major == majorSimple && n == simpleFalse
	}
	return true
}

func (o *Outline) takeHeaders(count uint64, b []byte) bool {
	for range count {
		major, n, rest, _ := head(b)
		if major != majorBytes {
			return false
		}
		o.sum.Headers = append(o.sum.Headers, HeaderField(rest[:n:n]))
		b = rest[n:]
	}
	return true
}

// Fields is Fields of the summary.
func (o *Outline) Fields(names []string) ([]byte, bool) { return o.sum.Fields(names) }

// SentDate is that of the summary.
func (o *Outline) SentDate() int64 { return o.sum.SentDate }

// Envelope is that of the summary, good until the next Read. It is false if it cannot be read: ask Decode.
func (o *Outline) Envelope() (*Envelope, bool) {
	if !o.decoded && o.envelope != nil && !o.sum.Envelope.read(o.envelope) {
		return nil, false
	}
	o.decoded = true
	return &o.sum.Envelope, true
}

// read reads an encoded envelope; false is as with Outline.Read.
func (e *Envelope) read(b []byte) bool {
	return eachPair(b, func(key uint64, value []byte) bool {
		switch key {
		case 1:
			return readText(value, &e.Date)
		case 2:
			return readText(value, &e.Subject)
		case 3:
			return readAddresses(value, &e.From)
		case 4:
			return readAddresses(value, &e.Sender)
		case 5:
			return readAddresses(value, &e.ReplyTo)
		case 6:
			return readAddresses(value, &e.To)
		case 7:
			return readAddresses(value, &e.Cc)
		case 8:
			return readAddresses(value, &e.Bcc)
		case 9:
			return readText(value, &e.InReplyTo)
		case 10:
			return readText(value, &e.MessageID)
		case 11:
			major, n, _, _ := head(value)
			e.Blank = uint8(n)
			return major == majorUint && n < 1<<8
		}
		return true
	})
}

func readAddresses(b []byte, list *[]Address) bool {
	major, n, b, _ := head(b)
	if major != majorArray || n == 0 {
		return false
	}
	*list = make([]Address, n) // each took a byte at least
	for i := range *list {
		rest, _ := skip(b)
		a := &(*list)[i]
		ok := eachPair(b[:len(b)-len(rest)], func(key uint64, value []byte) bool {
			switch key {
			case 1:
				return readText(value, &a.Name)
			case 2:
				return readText(value, &a.Mailbox)
			case 3:
				return readText(value, &a.Host)
			case 4:
				return readText(value, &a.Route)
			}
			return true
		})
		if !ok {
			return false
		}
		b = rest
	}
	return true
}

func readText(b []byte, text *string) bool {
	major, _, rest, _ := head(b)
	*text = string(rest)
	return major == majorText
}

// eachPair calls take for each key and encoded value of an encoded map, until it is false. It is false, too, if b is no map or its keys are not
// numbers from 1 up, ascending, as package codec has them.
func eachPair(b []byte, take func(key uint64, value []byte) bool) bool {
	major, pairs, b, ok := head(b)
	if !ok || major != majorMap {
		return false
	}
	before := uint64(0)
	for range pairs {
		major, key, rest, ok := head(b)
		if !ok || major != majorUint || key <= before {
			return false
		}
		before = key
		if b, ok = skip(rest); !ok || !take(key, rest[:len(rest)-len(b)]) {
			return false
		}
	}
	return len(b) == 0
}

// Major types of CBOR (RFC 8949 section 3.1), and two simple values.
const (
	majorUint     = 0
	majorNegative = 1
	majorBytes    = 2
	majorText     = 3
	majorArray    = 4
	majorMap      = 5
	majorSimple   = 7

	simpleFalse = 20
	simpleTrue  = 21
)

// head reads the head of the item that b starts with (RFC 8949 section 3) and gives what follows. It is false for what package codec never writes: indefinite lengths, and
// what is cut short.
func head(b []byte) (major byte, arg uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, 0, nil, false
	}
	major, arg, rest = b[0]>>5, uint64(b[0]&0x1f), b[1:]
	if arg < 24 {
		return major, arg, rest, true
	}
	size := 1 << (arg - 24)
	if arg > 27 || len(rest) < size {
		return 0, 0, nil, false
	}
	arg = 0
	for _, c := range rest[:size] {
		arg = arg<<8 | uint64(c)
	}
	return major, arg, rest[size:], true
}

// skip gives what follows the item that b starts with, with all that is in it. It is false for tags and what head refuses.
func skip(b []byte) (rest []byte, ok bool) {
	for left := uint64(1); left > 0; left-- {
		if left > uint64(len(b)) { // each takes a byte at least
			return nil, false
		}
		major, n, rest, ok := head(b)
		if !ok {
			return nil, false
		}
		switch b = rest; major {
		case majorUint, majorNegative, majorSimple:
		case majorBytes, majorText:
			if n > uint64(len(b)) {
				return nil, false
			}
			b = b[n:]
		case majorArray, majorMap:
			if n > uint64(len(b)) {
				return nil, false
			}
			if left += n; major == majorMap {
				left += n
			}
		default:
			return nil, false
		}
	}
	return b, true
}
