// Package codec is the one structured encoding of Hongyan: CBOR (RFC 8949) in its core
// deterministic form (section 4.2.1), so that equal values give equal bytes on every replica.
//
// Structs use small integer keys (`cbor:"1,keyasint"`). A decoder ignores keys that it does not
// know: a newer node may add fields, and must never reuse or retype a key. What is read may come
// from a damaged file or a confused peer, so nesting, array and map sizes are bounded, duplicate
// keys and trailing bytes are refused, and decoding never panics.
package codec

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits on what Unmarshal accepts. The nesting bound leaves room for the deepest message
// structure that package message writes (32 levels, two CBOR levels each).
const (
	maxNesting  = 96
	maxElements = 1 << 20
	maxPairs    = 1 << 16
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed encoding")

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	decoder = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  maxNesting,
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxPairs,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8DecodeInvalid,
	}.DecMode())
)

// Raw is a value as it is encoded.
type Raw = cbor.RawMessage

// must unwraps the construction of a mode from constant options, which fails only if this file is wrong.
func must[T any](mode T, err error) T {
	if err != nil {
		panic("codec: options: " + err.Error())
	}
	return mode
}

// Marshal encodes v. It fails only for values that have no encoding (channels, functions).
func Marshal(v any) ([]byte, error) {
	b, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// Unmarshal decodes exactly one value of b into v, a pointer. Errors wrap ErrMalformed.
func Unmarshal(b []byte, v any) error {
	if err := decoder.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %T: %w: %w", v, ErrMalformed, err)
	}
	return nil
}
