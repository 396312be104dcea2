package command

import (
	"encoding/base64"
	"strings"

	"hongyan/frontends/imap/wire"
)

const (
	maxIDPairs = 30 // RFC 2971 section 3.3
	maxEnable  = 64 // capabilities of one ENABLE
)

// None parses a command without arguments.
func None(d *wire.Decoder) error { return d.End() }

// Login parses LOGIN.
func Login(d *wire.Decoder) (user, password string, err error) {
	if user, err = spString(d); err != nil {
		return "", "", err
	}
	if password, err = spString(d); err != nil {
		return "", "", err
	}
	return user, password, d.End()
}

// spString takes a space and an atom or string.
func spString(d *wire.Decoder) (string, error) {
	if err := d.SP(); err != nil {
		return "", err
	}
	s, err := d.AString()
	return string(s), err
}

// Authenticate parses AUTHENTICATE: a mechanism in upper case, and perhaps its first response (RFC 4959), which may be empty but
// is then not nil.
func Authenticate(d *wire.Decoder) (mechanism string, initial []byte, err error) {
	if err := d.SP(); err != nil {
		return "", nil, err
	}
	if mechanism, err = d.Atom(); err != nil {
		return "", nil, err
	}
	mechanism = strings.ToUpper(mechanism)
	if !d.Try(' ') {
		return mechanism, nil, d.End()
	}
	text := d.Take(func(c byte) bool { return c > ' ' })
	if string(text) == "=" {
		return mechanism, []byte{}, d.End()
	}
	if initial, err = Base64(text); err != nil {
		return "", nil, err
	}
	return mechanism, initial, d.End()
}

// Base64 undoes the encoding of a SASL response.
func Base64(text []byte) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return nil, wire.Bad("Bad base64")
	}
	return raw, nil
}

// Plain takes apart the response of SASL PLAIN (RFC 4616).
func Plain(response []byte) (identity, user, password string, err error) {
	parts := strings.Split(string(response), "\x00")
	if len(parts) != 3 || parts[1] == "" {
		return "", "", "", wire.Bad("Bad response of SASL PLAIN")
	}
	return parts[0], parts[1], parts[2], nil
}

// ID parses ID (RFC 2971): pairs of field and value, without those that are NIL.
func ID(d *wire.Decoder) (pairs [][2]string, err error) {
	if err := d.SP(); err != nil {
		return nil, err
	}
	if d.TryWord("NIL") {
		return nil, d.End()
	}
	field, n := "", 0
	err = d.List(func() error {
		if n++; n > 2*maxIDPairs {
			return wire.Limit("Too many fields in ID")
		}
		if n%2 == 1 {
			s, err := d.String()
			field = string(s)
			return err
		}
		s, ok, err := d.NString()
		if ok {
			pairs = append(pairs, [2]string{field, string(s)})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if n%2 == 1 {
		return nil, wire.Bad("A field of ID has no value")
	}
	return pairs, d.End()
}

// Enable parses ENABLE (RFC 5161): capabilities in upper case.
func Enable(d *wire.Decoder) (caps []string, err error) {
	for {
		if err := d.SP(); err != nil {
			return nil, err
		}
		c, err := d.Atom()
		if err != nil {
			return nil, err
		}
		if caps = append(caps, strings.ToUpper(c)); len(caps) > maxEnable {
			return nil, wire.Limit("Too many capabilities")
		}
		if d.AtEnd() {
			return caps, d.End()
		}
	}
}

// Compress parses COMPRESS (RFC 4978): the algorithm, in upper case.
func Compress(d *wire.Decoder) (algorithm string, err error) {
	if err := d.SP(); err != nil {
		return "", err
	}
	if algorithm, err = d.Word(); err != nil {
		return "", err
	}
	return algorithm, d.End()
}
